"""The replay: it takes the collector's place, and gives the records of a day of another archive to the pipeline again.

    DayStream ──line──▶ Way: snapshot ──▶ Flow ──▶ producer ──▶ lane ──▶ writer
    Holes     ──what filled them──▶ fill ──────────────────────────────────┘
    then: all durable? ─▶ each file that is over sealed? ─▶ does the target hold what was given? ─▶ `replay_ended`

Guarantees: it waits for room and sheds nothing; each record is given once, whatever was killed meanwhile: what the target holds
already is read and not given again, and a target that holds anything else is refused. It only reads the source. When
all is done it beats on, until it is told to stop.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from observer import __version__
from observer.archive.findings import Finding
from observer.archive.layout import parse_segment
from observer.archive.opening import open_content
from observer.archive.root import read_marker
from observer.board import unpack
from observer.clock import SECOND_NS, kst_text, mono_ns, wall_ns
from observer.delivery.fill import Fill
from observer.errors import EXIT_OK
from observer.model import events
from observer.replay.holes import Filled, Holes
from observer.replay.recorded import recv_ns_of
from observer.replay.standing import held, unsealed
from observer.replay.stream import Choice, DayStream
from observer.replay.tempo import Tempo
from observer.roles.replay_way import MARKS, TargetError, Way
from observer.roles.role import Context

log = logging.getLogger("observer.replay")

DONE: Final = "done"
FAILED: Final = "failed"
LOOK_NS = SECOND_NS // 5
WAIT_S = 0.002
PATIENT_S = 0.1
FILL_AGAIN_S = 2.0
OVER_S = 12  # after so long the writer has closed an interval
DRAIN_SHARE = 0.6  # of stop_timeout
FINDINGS_SHOWN = 20
FINDING_SHOWN = 300  # signs


class Order(NamedTuple):
    """What is to be replayed.

    Attributes:
        source: the archive.
        choice: what of it.
        speed: so many times as fast as it was received; 0: as fast as it goes.
    """

    source: Path
    choice: Choice
    speed: float

    def to_data(self) -> dict[str, Any]:
        """What must be the same where a replay is gone on with, as in `replay_begun`."""
        choice = self.choice
        return {
            "day": choice.day, "source": str(self.source), "uuid": read_marker(self.source), "tracks": list(choice.tracks),
            "symbols": list(choice.symbols), "from": kst_text(choice.start_ns), "to": kst_text(choice.end_ns), "version": __version__,
        }  # fmt: skip


class _StoppedError(Exception):
    """It was told to stop before it was done."""


def main(order: Order, context: Context) -> int:
    """Replay, and wait to be told to stop; returns the exit code."""
    replay = Replay(order, context)
    try:
        replay.run()
    except _StoppedError:
        pass
    except (TargetError, OSError) as error:
        replay.fail(error)
    replay.idle()
    return replay.finish()


class Replay:
    """One incarnation's work.

    Args:
        order: what is to be replayed.
        context: the role's.
    """

    def __init__(self, order: Order, context: Context) -> None:
        self._order = order
        self._context = context
        self._target = context.settings.paths.asset_dir
        self._producer = context.producer()
        self._ways: dict[str, Way] = {}
        self._stream: DayStream | None = None
        self._holes: Holes | None = None
        self._state = "begins"
        self._error = ""
        self._skipped = 0
        self._read = 0
        self._at = b""
        self._filled_records = self._filled_files = 0
        self._turn_at = self._look_at = 0

    def run(self) -> None:
        """Give everything, and see that it is there.

        Raises:
            TargetError: the target does not hold what it must.
            OSError: source or target cannot be read.
        """
        self._wait_for_predecessor()
        self._state = "reading"
        order, choice = self._order, self._order.choice
        before = held(self._target, choice.day, self._turn)
        self._skipped = sum(tally.count for tally in before.values())
        self._ways = {
            track: Way(track, self._producer, before[track], self._wait, self._context.board, self._context.instance)
            for track in choice.tracks
        }
        self._stream = stream = DayStream(order.source, choice, self._turn)
        self._holes = holes = Holes(order.source, choice, MARKS, stream.seals)
        self._tell(events.REPLAY_BEGUN, {**order.to_data(), "speed": order.speed, "held": self._skipped})
        self._give(stream)
        for telling in holes.gaps():
            self._tell(telling.event, telling.data, telling.severity)
        for filled in holes.filled():
            self._fill(filled)
        for telling in holes.last_words():
            self._tell(telling.event, telling.data, telling.severity)
        self._settle()
        self._tell(events.REPLAY_ENDED, self._ended(), events.WARNING if self._refused() or self._findings() else events.INFO)
        self._drain()
        self._state = DONE

    def fail(self, error: TargetError | OSError) -> None:
        """Say why it cannot be done."""
        self._state = FAILED
        self._error = str(error) if isinstance(error, TargetError) else f"{error.filename or self._order.source}: {error.strerror or error}"
        log.error("%s", self._error)

    def idle(self) -> None:
        """Beat until told to stop."""
        while not self._context.stopping.wait(self._producer.tick_s):
            self._turn(stoppable=False)

    def finish(self) -> int:
        """Deliver what is held; returns the exit code."""
        for way in self._ways.values():
            way.flow.flush()
            way.publish()
        patience = self._context.settings.config.supervisor.stop_timeout * DRAIN_SHARE
        if not self._producer.drain(time.monotonic() + patience, self._context.beat):
            log.error("stopping with %d bytes that are not acknowledged", self._producer.held_bytes)
        self._publish()
        return EXIT_OK

    # ------------------------------------------------------------------------------------------------ its steps

    def _wait_for_predecessor(self) -> None:
        """An incarnation before may have left records that are still on their way: what the target holds is not known yet."""
        words = [f"flow.{self._context.instance}.{track}." for track in ("swing", "scalp")]
        board = self._context.board
        while any(unpack(board.get(word + "closed"))[0] < unpack(board.get(word + "accepted"))[0] for word in words):
            self._wait()

    def _give(self, stream: DayStream) -> None:
        tempo = Tempo(self._order.speed)
        for line in stream:
            way = self._ways[line.track]
            self._at = line.recv
            while way.new and (left := tempo.left_ns(recv_ns_of(line.recv), mono_ns())) > 0:
                self._wait(min(left / SECOND_NS, self._producer.tick_s))
            way.give(line)
            self._read += 1
            if mono_ns() >= self._turn_at:
                self._turn()
        for way in self._ways.values():
            way.check()
            way.flow.flush()
            way.publish()
        self._drain()

    def _fill(self, filled: Filled) -> None:
        """Have the writer write what filled a hole, and see that it did."""
        self._filled_files += 1
        fill = Fill(self._producer.incarnation, self._filled_files, filled.path, filled.data, filled.event, filled.told)
        again = 0.0
        while self._producer.filled < fill.number:
            if time.monotonic() >= again and self._producer.send_fill(fill):
                again = time.monotonic() + FILL_AGAIN_S
            self._wait()
        try:
            with open_content(self._target / filled.path) as file:  # a janitor may have compressed it before the replay was interrupted
                there = file.read()
        except FileNotFoundError:  # it was sealed there, and is gone: the writer does not write it a second time
            there = b""
        if there != filled.data:
            raise TargetError(f"{self._target / filled.path} is another one than that of the source", "name an empty directory with --to")
        self._filled_records += filled.records

    def _settle(self) -> None:
        """Let the writer seal what is over, and look whether the target holds what was given."""
        self._state = "sealing"
        self._context.board.cell(f"role.{self._context.instance}.replayed").set(1)
        while any(self._is_over(path) for path in unsealed(self._target, self._order.choice.day)):
            self._wait(PATIENT_S)
        self._state = "checking"
        now = held(self._target, self._order.choice.day, self._turn)
        for track, way in self._ways.items():
            if now[track] != way.given:
                what = f"the target holds {now[track].count:,} records of {track}, {way.given.count:,} were given"
                raise TargetError(what, f"observer verify {self._order.choice.day} --root {self._target} says which are wrong")

    def _is_over(self, path: str) -> bool:
        name, roll = parse_segment(path), self._context.settings.config.archive.roll
        assert name is not None, "only segments are listed"
        length_s = roll.swing if name.track == "swing" else roll.scalp
        return name.start_s + length_s + OVER_S <= wall_ns() // SECOND_NS

    # --------------------------------------------------------------------------------------------------- turning

    def _turn(self, *, stoppable: bool = True) -> None:
        """Beat, send, hear; cheap, and called between any two records."""
        now = mono_ns()
        if now < self._turn_at:
            return
        self._turn_at = now + int(self._producer.tick_s * SECOND_NS)
        self._context.beat()
        self._producer.tick()
        if now >= self._look_at:
            self._look_at = now + LOOK_NS
            for way in self._ways.values():
                way.flow.tick(now)
                way.publish()
            self._publish()
            self._context.progress()
        if stoppable and self._context.stopping.is_set():
            raise _StoppedError

    def _wait(self, seconds: float = WAIT_S) -> None:
        self._turn()
        self._context.stopping.wait(seconds)

    def _drain(self) -> None:
        while not self._producer.drain(time.monotonic() + PATIENT_S, self._context.beat):
            self._turn()

    def _tell(self, event: str, data: dict[str, Any], severity: str = events.INFO) -> None:
        while not self._producer.put_system(event, severity, data):
            self._wait()

    # ------------------------------------------------------------------------------------------------ what it says

    def _refused(self) -> dict[str, int]:
        refused: Counter[tuple[str, str]] = Counter(self._holes.refused if self._holes is not None else {})
        for way in self._ways.values():
            refused.update(way.flow.refusals)
        return {f"{stage}:{reason}": count for (stage, reason), count in sorted(refused.items())}

    def _findings(self) -> list[Finding]:
        return [finding for each in (self._stream, self._holes) if each is not None for finding in each.findings]

    def _ended(self) -> dict[str, Any]:
        return {
            "day": self._order.choice.day, "read": self._read, "given": sum(way.given.count for way in self._ways.values()),
            "held": self._skipped, "refused": self._refused(), "filled": self._filled_records, "files": self._filled_files,
            "findings": len(self._findings()), "holes_known": self._holes is not None and self._holes.known,
        }  # fmt: skip

    def _publish(self) -> None:
        shown = [str(finding)[:FINDING_SHOWN] for finding in self._findings()[:FINDINGS_SHOWN]]
        stream = self._stream
        self._context.note(
            {
                **self._ended(), "state": self._state, "error": self._error, "at": self._at.decode(), "shown": shown,
                "bytes": stream.read if stream else 0, "size": stream.size if stream else 0,
                "refusals": {
                    track: {f"{stage}:{reason}": count for (stage, reason), count in way.flow.refusals.items()}
                    for track, way in self._ways.items()
                },
            }
        )  # fmt: skip
