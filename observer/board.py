"""The board: what every process may read of every other one.

One anonymous shared mapping, made before the first fork. It holds aligned 64-bit words, each with exactly one writer,
so a word is never torn; what must be read together is packed into one word. Beside them each role has a *note*: a small
JSON text under a version counter, for what is not a number (file names, fault texts).

    supervisor.*                     the supervisor's own words
    role.<instance>.<word>           SUPERVISED words are the supervisor's, OWN words are the role's
    flow.<instance>.<track>.<word>   PRODUCED words are the producer's, WRITTEN words are the writer's,
                                     `accepted` is the supervisor's
    track.<track>.<word>             the writer's
    archive.<word>                   the writer's: where it records, what it asks others to do for it
    role.prober.<word>               as of a role, of the disposable process that tries the archive's disk
    ring.*                           the chronicle: the supervisor's events, told by the janitor

Guarantees: counters are cumulative over incarnations (a new incarnation goes on from the value it finds); a note of an
incarnation that is not alive reads as None.

`multiprocessing.RawArray` is not used: it is a mapped file, so a full /dev/shm would be a SIGBUS.
"""

from __future__ import annotations

import mmap
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

TRACKS = ("swing", "scalp", "system")

STATE_NAMES = ("waiting", "starting", "running", "healthy", "terminating", "aborting", "killing", "stuck", "stopped")

COUNT_BITS = 40
COUNT_MASK = (1 << COUNT_BITS) - 1
INCARNATION_MASK = (1 << 24) - 1

SUPERVISOR = (
    "pid",
    "life",
    "beat",
    "started",
    "started_wall",
    "reloads",
    "ring_head",
    "stopping",
    "http_bound",
    "journal_lost",
    "hung",
    "writers_silent",
    "reloaded",
)
SUPERVISED = ("pid", "incarnation", "forked", "state", "restarts", "last_status", "last_death", "lane")
# replayed: a replay has given all its records
OWN = (
    "beat", "progress", "told", "blind_from_swing", "blind_from_scalp", "gap_from", "ws_attempts", "ws_next", "rest_next", "rest_gap",
    "rest_gap_at", "poll_cycle", "poll_every", "poll_from", "desired", "confirmed", "reconnects", "last_frame", "journal_lost",
    "shed_seen_swing", "shed_seen_scalp", "shed_seen_system", "replayed", "load", "thinned_from", "thinned_by",
)  # fmt: skip
PRODUCED = ("received", "rejected", "shed", "offered", "last_recv")
WRITTEN = ("committed", "seen", "closed", "committed_recv", "found_recv", "resend", "left", "filled")
ACCEPTED = ("accepted",)
SLOTS = 4
TRACK = (
    *(f"durable{slot}" for slot in range(SLOTS)), *(f"fallback{slot}" for slot in range(SLOTS)),
    "lines", "bytes", "interval", "sink_errors",
)  # fmt: skip
# sweep_wanted: how often the writer, which holds the archive, had no space
ARCHIVE = ("place", "probe_wanted", "sweep_wanted", "silent_known")
PROBER = "prober"
RING_FIELDS = ("number", "kind", "incarnation", "pid", "status", "wall", "extra", "told")
RING_SIZE = 512

NOTE_BYTES = 16 * 1024
_NOTE_HEADER = 4  # version, incarnation, length, crc32


def pack(incarnation: int, count: int) -> int:
    """A word that says ``count`` of ``incarnation``: what is read together is written together."""
    return (incarnation & INCARNATION_MASK) << COUNT_BITS | count & COUNT_MASK


def unpack(word: int) -> tuple[int, int]:
    """The (incarnation, count) of a packed word."""
    return word >> COUNT_BITS, word & COUNT_MASK


class LaneWord(NamedTuple):
    """Which lane joins which pair of incarnations: 16 + 24 + 24 bits in one word."""

    lane: int
    producer: int
    writer: int

    def packed(self) -> int:
        return self.lane << 48 | (self.producer & INCARNATION_MASK) << 24 | self.writer & INCARNATION_MASK

    @classmethod
    def of(cls, word: int) -> LaneWord:
        return cls(word >> 48, word >> 24 & INCARNATION_MASK, word & INCARNATION_MASK)


class Cell:
    """One 64-bit word of the board. Only its one writer may call ``set`` or ``add``."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: memoryview, at: int) -> None:
        self._words = words
        self._at = at

    def get(self) -> int:
        return self._words[self._at]

    def set(self, value: int) -> None:
        self._words[self._at] = value

    def add(self, count: int = 1) -> None:
        self._words[self._at] += count


class Note:
    """A role's JSON text on the board, at most NOTE_BYTES long, whole or not read at all."""

    def __init__(self, words: memoryview, at: int, live: Cell | None) -> None:
        self._words = words
        self._at = at
        self._live = live
        self._text = words[at + _NOTE_HEADER : at + NOTE_BYTES // 8].cast("B")

    def write(self, incarnation: int, content: dict[str, Any]) -> None:
        """Publish ``content``.

        Raises:
            ValueError: its JSON is longer than the note.
        """
        text = orjson.dumps(content)
        if len(text) > len(self._text):
            raise ValueError(f"a note of {len(text)} bytes does not fit into {len(self._text)}")
        at, words = self._at, self._words
        version = words[at] | 1
        words[at] = version
        words[at + 1] = incarnation
        words[at + 2] = len(text)
        words[at + 3] = zlib.crc32(text)
        self._text[: len(text)] = text
        words[at] = version + 1

    def read(self) -> dict[str, Any] | None:
        """The last whole text of the living incarnation; None when there is none."""
        at, words = self._at, self._words
        for _ in range(20):
            version, incarnation, length, crc = words[at : at + _NOTE_HEADER]
            text = bytes(self._text[: min(length, len(self._text))])
            if version and not version & 1 and words[at] == version and zlib.crc32(text) == crc:
                if self._live is not None and incarnation != self._live.get():
                    return None
                content: dict[str, Any] = orjson.loads(text)
                return content
            time.sleep(0.0002)
        return None


class RingEvent(NamedTuple):
    """One supervisor event: ``kind`` and ``extra`` are the numbers that `observer.model.chronicle` declares."""

    number: int
    kind: int
    incarnation: int
    pid: int
    status: int
    wall: int
    extra: int
    told: int


class Board:
    """The shared mapping.

    Args:
        instances: names of the roles' instances in a fixed order, for example ``("collector", "writer", "janitor")``.
    """

    def __init__(self, instances: Sequence[str]) -> None:
        self.instances = tuple(instances)
        names = list(self._declared())
        self._index = {name: number for number, name in enumerate(names)}
        ring = len(names)
        self._ring = ring
        notes = ring + RING_SIZE * len(RING_FIELDS)
        words_needed = notes + (len(self.instances) + 2) * NOTE_BYTES // 8
        self._mapping = mmap.mmap(-1, words_needed * 8)
        self._words = memoryview(self._mapping).cast("Q")
        self._notes = {
            instance: Note(self._words, notes + slot * NOTE_BYTES // 8, self.cell(f"role.{instance}.incarnation"))
            for slot, instance in enumerate(self.instances)
        }
        after = notes + len(self.instances) * NOTE_BYTES // 8
        self._notes["supervisor"] = Note(self._words, after, None)
        self._notes[PROBER] = Note(self._words, after + NOTE_BYTES // 8, self.cell(f"role.{PROBER}.incarnation"))

    def _declared(self) -> Iterator[str]:
        yield from (f"supervisor.{word}" for word in SUPERVISOR)
        for instance in self.instances:
            yield from (f"role.{instance}.{word}" for word in SUPERVISED + OWN)
            for track in TRACKS:
                yield from (f"flow.{instance}.{track}.{word}" for word in PRODUCED + WRITTEN + ACCEPTED)
        for track in TRACKS:
            yield from (f"track.{track}.{word}" for word in TRACK)
        yield from (f"archive.{word}" for word in ARCHIVE)
        yield from (f"role.{PROBER}.{word}" for word in SUPERVISED + OWN)

    def cell(self, name: str) -> Cell:
        """The word called ``name``.

        Raises:
            KeyError: no such word is declared.
        """
        return Cell(self._words, self._index[name])

    def get(self, name: str) -> int:
        """The value of the word called ``name``."""
        return self._words[self._index[name]]

    def note(self, instance: str) -> Note:
        """The note of ``instance``, of ``"supervisor"`` or of PROBER."""
        return self._notes[instance]

    def ring_put(self, kind: int, incarnation: int, pid: int, status: int, wall: int, extra: int = 0) -> int:
        """Append a supervisor event (supervisor only); returns its number, 1, 2, 3 …"""
        head = self.cell("supervisor.ring_head")
        number = head.get() + 1
        at = self._slot(number)
        for offset, value in enumerate((number, kind, incarnation, pid, status & COUNT_MASK, wall, extra, 0)):
            self._words[at + offset] = value
        head.set(number)
        return number

    def ring_get(self, number: int) -> RingEvent | None:
        """The event ``number``; None when it is not there yet or has been overwritten."""
        at = self._slot(number)
        event = RingEvent(*self._words[at : at + len(RING_FIELDS)])
        return event if event.number == number == self._words[at] else None

    def ring_tell(self, number: int, word: int) -> None:
        """Note with event ``number`` the packed (incarnation, seq) that tells it (janitor only)."""
        self._words[self._slot(number) + RING_FIELDS.index("told")] = word

    def _slot(self, number: int) -> int:
        return self._ring + number % RING_SIZE * len(RING_FIELDS)
