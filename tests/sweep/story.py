"""One run: a fixed input with rolls, seals, a full disk and a merge; something happens at one call; in the end all is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from observer.archive.fallback import pending, pending_flights
from observer.archive.layout import list_files, parse_segment
from observer.archive.seals import read_seals
from observer.archive.verify import verify_days
from tests.host.tracing import attached
from tests.sweep.market import Market, WrongError, at_minute

CALLS = (
    "write", "pwrite64", "ftruncate", "truncate", "fdatasync", "fsync", "rename", "renameat", "renameat2", "unlink", "unlinkat",
    "openat", "mkdir", "mkdirat",
)  # fmt: skip
KILL, CRASH = "KILL", "CRASH"  # the writer dies; the whole service dies
HOWS = (KILL, CRASH, "EIO", "ENOSPC", "EACCES")
LIFE = 0x7F3A
MIB = 1024 * 1024
DISK_BYTES = 16 * MIB


class Moment(NamedTuple):
    """What happens, and at which call: ``write:17:EIO``."""

    call: str
    number: int
    how: str

    def __str__(self) -> str:
        return f"{self.call}:{self.number}:{self.how}"

    @classmethod
    def of(cls, text: str) -> Moment:
        """The moment that ``text`` names."""
        call, number, how = text.split(":")
        if call not in CALLS or how not in HOWS:
            raise ValueError(f"{text}: give CALL:NUMBER:HOW, HOW one of {', '.join(HOWS)}")
        return cls(call, int(number), how)

    @property
    def injection(self) -> str:
        """As after `strace -e inject=`."""
        what = "signal=SIGKILL" if self.how in (KILL, CRASH) else f"error={self.how}"
        return f"{self.call}:{what}:when={self.number}"


class Crashed(Exception):
    """The whole service is gone."""


class Run:
    """One run.

    Args:
        disk: an empty directory on a small disk of its own, for the archive.
        directory: an empty directory elsewhere, for everything else.

    Attributes:
        first_pid: of the writer at which strace looks.
    """

    def __init__(self, disk: Path, directory: Path) -> None:
        self.market = Market(directory, disk / "archive", LIFE)
        self._ballast = disk / "ballast"
        self._directory = directory
        self.first_pid = 0

    def play(self, moment: Moment | None) -> None:
        """The whole story, with ``moment`` in it; None: nothing happens, and every call stands in strace's log.

        Raises:
            WrongError: a record is lost, doubled, torn or invented, or the writer did not go on.
        """
        try:
            with contextlib.ExitStack() as traced:
                self.market.begin_writer(lambda pid: traced.enter_context(self._traced(pid, moment)))
                for step in (self._rolls, self._fault, self._return):
                    step(moment is not None and moment.how == CRASH)
                self.market.stop()
        except Crashed:
            self._after_a_crash()
            return
        check(self.market)
        again = self._next_life()
        again.until(lambda: again.state == "ok", "a clean start")
        again.stop()
        check(self.market)

    def _traced(self, pid: int, moment: Moment | None) -> contextlib.AbstractContextManager[object]:
        self.first_pid = pid
        if moment is None:
            return attached(pid, [f"trace={','.join(CALLS)}"], self._directory, ["-y"])
        return attached(pid, [f"trace={moment.call}", f"inject={moment.injection}"], self._directory)

    def _rolls(self, crash: bool) -> None:
        for track, count, ago in (("scalp", 800, 6), ("swing", 50, 6), ("scalp", 800, 4), ("scalp", 300, 0)):
            self._deliver([(track, count, ago)], crash)
        self._until(lambda: sealed(self.market.archive, 2), "seals of what is over", crash)

    def _fault(self, crash: bool) -> None:
        with self._ballast.open("wb") as file:
            size = DISK_BYTES
            while size >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    size //= 2
        self._deliver([("scalp", 100, 0), ("scalp", 300, 4), ("swing", 30, 0), ("scalp", 300, 0)], crash)
        self._until(lambda: self.market.state == "fallback", "recording on the fallback", crash)
        self._deliver([("scalp", 100, 0)], crash)

    def _return(self, crash: bool) -> None:
        self._ballast.unlink()
        self._deliver([("scalp", 200, 0), ("swing", 10, 0)], crash)
        self._until(lambda: settled(self.market), "everything moved back", crash)
        self._deliver([("scalp", 200, 0)], crash)
        self._until(lambda: settled(self.market), "a fault that is over", crash)

    def _deliver(self, records: list[tuple[str, int, int]], crash: bool) -> None:
        for track, count, ago in records:
            self.market.send(track, count, at_minute(ago))
        self._until(self.market.delivered, "acknowledgements", crash)

    def _until(self, done: Callable[[], object], what: str, crash: bool) -> None:
        self.market.until(lambda: self._gone(crash) or done(), what)

    def _gone(self, crash: bool) -> bool:
        if crash and self.market.child.exit_code is not None:
            raise Crashed
        return False

    def _after_a_crash(self) -> None:
        """The service is started anew: what was acknowledged is there, nothing twice, and nothing that was never sent."""
        self._ballast.unlink(missing_ok=True)
        again = self._next_life()
        again.until(lambda: settled(again), "a clean start")
        again.send("scalp", 100, at_minute(0))
        again.until(again.delivered, "acknowledgements after a clean start")
        again.stop()
        check(self.market, again)

    def _next_life(self) -> Market:
        again = Market(self._directory, self.market.archive, LIFE + 1)
        again.begin_writer()
        return again


def settled(market: Market) -> bool:
    """Whether the writer records on the archive, nothing waits to be moved back, and no fault is stated."""
    return market.state == "ok" and not market.faults and (not market.fallback.exists() or not pending(market.fallback))


def sealed(archive: Path, least: int) -> bool:
    """Whether at least ``least`` minutes that are over are sealed, and none is not."""
    over = [path for path in list_files(archive) if (name := parse_segment(path)) and name.track == "scalp" and name.start_s < at_minute(1)]
    return len(over) >= least and set(over) <= set(read_seals(archive))


def check(market: Market, after_a_crash: Market | None = None) -> None:
    """Compare the archive with what was sent.

    Args:
        market: who sent it.
        after_a_crash: who went on; then only what ``market`` was told to be durable must be there.

    Raises:
        WrongError: a record is lost, doubled, torn or invented, or `observer verify` finds a problem.
    """
    sent = {line: of for of, line in market.truth.items()}
    must = {of for of in market.truth if after_a_crash is None or of[1] <= market.acknowledged(of[0])}
    if after_a_crash is not None:
        sent |= {line: (f"{track} then", seq) for (track, seq), line in after_a_crash.truth.items()}
        must |= set(sent.values()) - set(market.truth)
    found: dict[tuple[str, int], int] = {}
    for line in lines(market.archive):
        if line not in sent:
            raise WrongError(f"torn or invented: {line[:120]!r}")
        found[sent[line]] = found.get(sent[line], 0) + 1
    doubled, lost = sorted(of for of, times in found.items() if times > 1), sorted(must - set(found))
    if doubled or lost:
        raise WrongError(f"{len(lost)} lost: {lost[:3]}; {len(doubled)} doubled: {doubled[:3]}\n{market.said()}")
    report = verify_days(market.archive, None)
    problems = [str(problem) for problem in report.problems] + [f"torn: {facts.path}" for facts in report.files if facts.torn]
    if problems or report.doubled:
        raise WrongError(f"verify: {report.doubled} doubled, {problems[:5]}\n{market.said()}")
    left = pending(market.fallback) + pending_flights(market.fallback) if market.fallback.exists() else []
    if left:
        raise WrongError(f"left on the fallback: {left}\n{market.said()}")


def lines(root: Path) -> Iterator[bytes]:
    """Every line of the data tracks below ``root``, with its newline; also a torn one."""
    for track in ("scalp", "swing"):
        for path in sorted(root.glob(f"{track}/*/*.jsonl")):
            yield from path.read_bytes().splitlines(keepends=True)
