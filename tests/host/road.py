"""A road between the service and a simulator that swallows packets: no reset, no end of file, no unreachable.

    service ── 10.231.x.1/30 ── router's namespace (drops, when told) ── 10.231.x.4/30 ── simulator's namespace

The packets are dropped on their way through, as loopback's and one's own would be refused to the sender by the kernel.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from tests.host.disk import run

TABLE = "inet swallowed"


class Road:
    """Two namespaces, gone with `close`.

    Attributes:
        host: the simulator's address.
        beyond: the command that executes another one at the simulator's end.
    """

    def __init__(self) -> None:
        number = os.getpid() % 250
        near, here, there, self.host = (f"10.231.{number}.{last}" for last in (1, 2, 5, 6))
        self._router, self._end = f"observer-road-{number}", f"observer-end-{number}"
        self.beyond = ("ip", "netns", "exec", self._end)
        try:
            for name in (self._router, self._end):
                run("ip", "netns", "add", name)
            self._join("", f"obs{number}a", near, self._router, f"obs{number}b", here)
            self._join(self._router, f"obs{number}c", there, self._end, f"obs{number}d", self.host)
            run("ip", "route", "add", f"10.231.{number}.4/30", "via", here)
            run(*self.beyond, "ip", "route", "add", "default", "via", there)
            self._on_the_way("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        except BaseException:
            self.close()
            raise

    def swallow(self, *ports: int, answers_only: bool = False) -> None:
        """Drop every packet to and from the ``ports`` of the simulator.

        Args:
            answers_only: only what the simulator answers, and not that it accepts a connection.
        """
        among = "{ " + ", ".join(map(str, ports)) + " }"
        ways = [f"tcp sport {among} tcp flags & syn == syn accept", f"tcp sport {among} drop"]
        if not answers_only:
            ways = [f"tcp {way} {among} drop" for way in ("sport", "dport")]
        rules = "; ".join(f"add rule {TABLE} forward {way}" for way in ways)
        chain = f"add table {TABLE}; add chain {TABLE} forward {{ type filter hook forward priority 0; }}"
        self._on_the_way("nft", f"{chain}; {rules}")

    def open(self) -> None:
        """Let them pass again."""
        self._on_the_way("nft", f"delete table {TABLE}")

    def close(self) -> None:
        """Remove everything; what still listens at the far end must have ended."""
        for name in (self._router, self._end):
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10)

    def _on_the_way(self, *command: str) -> None:
        run("ip", "netns", "exec", self._router, *command)

    def _join(self, one: str, name: str, address: str, other: str, other_name: str, other_address: str) -> None:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", other_name)
        for space, device, at in ((one, name, address), (other, other_name, other_address)):
            if space:
                run("ip", "link", "set", device, "netns", space)
            within = ("ip", "-n", space) if space else ("ip",)
            run(*within, "addr", "add", f"{at}/30", "dev", device)
            run(*within, "link", "set", device, "up")
