"""The service as systemd runs it: asked how it is, read anew, restarted and waited for, stopped for good.

Guarantees: where no systemd runs (a container, a DESTDIR) nothing is asked of it, and that is said once. A wait has a deadline
and a sign of life.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from hand import Failure, Hand, ask, has, say

UNIT = "observer.service"
ACCOUNT = "observer"
RUNNING = frozenset({"active", "activating", "reloading", "deactivating", "refreshing"})
# The unit's TimeoutStopSec and TimeoutStartSec, and some seconds.
RESTART_S = 140.0
# So long it must stay up: what dies right behind READY=1 has not started.
SETTLE_S = 3.0
POLL_S = 0.25
SIGN_OF_LIFE_S = 5.0
CRASHES = 3


@dataclass(frozen=True)
class Look:
    """One look at the unit: systemd's ActiveState, InvocationID and NRestarts."""

    state: str
    invocation: str
    restarts: int


@dataclass(frozen=True)
class Service:
    """The unit on the host of ``hand``."""

    hand: Hand

    @property
    def systemd_runs(self) -> bool:
        """Whether there is a systemd to talk to."""
        return self.hand.live and self.hand.at(Path("/run/systemd/system")).is_dir()

    def look(self) -> Look:
        """How the unit is."""
        text = ask(["systemctl", "show", UNIT, "--property=ActiveState,InvocationID,NRestarts"]) if self.systemd_runs else ""
        told = dict(line.partition("=")[::2] for line in text.splitlines())
        return Look(told.get("ActiveState", "inactive"), told.get("InvocationID", ""), int(told.get("NRestarts") or 0))

    def is_meant_to_run(self) -> bool:
        """Whether it runs, or systemd is about to run it."""
        return self.look().state in RUNNING

    def read_anew(self) -> None:
        """Let systemd read the unit, and the journal its catalog."""
        if not self.hand.live:
            return
        if has("journalctl"):
            self.hand.run(["journalctl", "--update-catalog"], "updating the journal's catalog")
        else:
            say("there is no journalctl here: the catalog is not updated")
        if self.systemd_runs:
            self.hand.run(["systemctl", "daemon-reload"], "systemd reads its units")
        else:
            say("systemd does not run here: it reads the unit when it starts")

    def has_account(self) -> bool:
        """Whether this host has the system user."""
        return self.hand.live and ask(["getent", "passwd", ACCOUNT]) != ""

    def make_account(self, definition: Path) -> None:
        """Have the system user.

        Args:
            definition: the installed sysusers file.
        """
        command = ["systemd-sysusers", str(definition)]
        if not self.hand.live:
            say(f"not run for a DESTDIR: {' '.join(command)}")
        elif self.has_account():
            say(f"kept the user {ACCOUNT}")
        elif has(command[0]):
            self.hand.run(command, f"making the user {ACCOUNT}")
        else:
            say(f"there is no {command[0]} here: make the user {ACCOUNT} yourself (useradd --system {ACCOUNT})")

    def restart(self) -> bool:
        """Restart it and wait until the new process has said that it is ready, and stays up.

        Returns:
            Whether it did.
        """
        before = self.look()
        try:
            self.hand.run(["systemctl", "restart", "--no-block", UNIT], "restarting")
        except Failure as failure:
            say(failure.what)
            return False
        return self.hand.dry or self._comes_up(before)

    def _comes_up(self, before: Look) -> bool:
        begin = spoken = time.monotonic()
        up_since = None
        while (now := time.monotonic()) - begin < RESTART_S:
            look = self.look()
            is_new = look.invocation != before.invocation  # else it is what was before the restart
            crashes = look.restarts - (before.restarts if look.restarts >= before.restarts else 0)  # systemd may count anew
            if look.state == "active" and is_new:
                up_since = up_since or now
                if now - up_since >= SETTLE_S:
                    say(f"{UNIT} is active again, after {up_since - begin:.1f} s")
                    return True
            elif is_new and (up_since is not None or look.state == "failed" or crashes >= CRASHES):
                say(f"{UNIT} does not stay up: it is {look.state}, after {crashes} restarts by systemd")
                return False
            if now - spoken >= SIGN_OF_LIFE_S:
                spoken = now
                say(f"… waiting for {UNIT}, which is {look.state} ({now - begin:.0f} of {RESTART_S:.0f} s)")
            time.sleep(POLL_S)
        say(f"{UNIT} is not active after {RESTART_S:.0f} s")
        return False

    def last_words(self) -> str:
        """The end of its journal."""
        return ask(["journalctl", "--unit", UNIT, "--lines=15", "--no-pager", "--output=short-iso"])

    def stop(self) -> None:
        """Stop it and take it out of the boot.

        Raises:
            Failure: it does not stop.
        """
        if not self.systemd_runs:
            if self.hand.live:
                say("systemd does not run here: there is no service to stop")
            return
        if ask(["systemctl", "show", UNIT, "--property=LoadState", "--value"]) not in {"not-found", ""}:
            self.hand.run(["systemctl", "disable", "--now", UNIT], "stopping: what was received is being written (up to 40 s)")
            if not self.hand.dry and (state := self.look().state) in RUNNING:
                raise Failure(f"{UNIT} is still {state} after `systemctl disable --now`", f"systemctl status {UNIT}; nothing was removed")

    def forget(self) -> None:
        """Let systemd forget how the unit ended, once its file is gone."""
        if self.systemd_runs and self.look().state == "failed":
            self.hand.run(["systemctl", "reset-failed", UNIT], "forgetting the unit")
