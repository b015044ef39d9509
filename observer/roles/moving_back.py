"""Moving back: what the fallback holds goes to the archive, in slices, while the archive is recorded to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from observer.archive import fallback
from observer.archive.faults import FallbackError, UnreadableError
from observer.archive.merge import Merged, merge_in_slices
from observer.roles.recording import Recording
from observer.roles.stores import Stores
from observer.sinks.store import ARCHIVE, Store

log = logging.getLogger("observer.writer")

AGAIN_S = 30.0


class MovingBack:
    """The merge of everything that is on the fallback.

    Args:
        stores: the writer's.
        moved: told how many records came back with each file.

    Attributes:
        done: nothing is known to wait on the fallback.
        error: why the fallback could not be read; None when it could.
    """

    def __init__(self, stores: Stores, moved: Callable[[int], None]) -> None:
        self.done = True
        self.error: OSError | None = None
        self._stores = stores
        self._moved = moved
        self._slices: Iterator[None] | None = None
        self._at = 0.0

    @property
    def running(self) -> bool:
        """Whether there is a slice to do now."""
        return not self.done and (self._slices is not None or time.monotonic() >= self._at)

    def want(self) -> None:
        """Something waits, or may wait, on the fallback."""
        self.done, self.error = False, None
        self.stop()
        self._at = 0.0

    def stop(self) -> None:
        """The archive refused: what is under way is left, and begun again later."""
        if self._slices is not None:
            self._slices = None

    def postpone(self, error: OSError) -> None:
        """The fallback cannot be read: try again later."""
        self.done, self.error = False, error
        self._later()

    def step(self, recording: Recording, store: Store) -> None:
        """One slice of work.

        Args:
            recording: writes the seals' records.
            store: the archive, open.

        Raises:
            OSError: the archive refused.
        """
        if self._slices is None:
            self._slices = self._merge(recording, store)
        try:
            next(self._slices)
        except StopIteration:
            self._slices = None
        except FallbackError as error:
            self.postpone(error)

    def _merge(self, recording: Recording, store: Store) -> Iterator[None]:
        place, touching = self._stores.fallback_at, self._stores.touching_fallback
        if place is None:
            self.done = True
            return
        # A record that an earlier writer wrote here and never acknowledged may still be sent to the archive: whoever merges it
        # must not take it a second time. Opening the fallback also cuts what is not to be believed.
        try:
            other = self._stores.open_fallback()
        except OSError as error:
            self.postpone(error)
            return
        finally:
            self._stores.at(ARCHIVE)
        recording.learn(other)
        other.release()
        store.flight.bring_back(place, touching)
        recording.write_flight()
        yield
        with fallback.on_fallback(place, touching):
            waiting = fallback.pending(place)
        unreadable: UnreadableError | None = None
        for path in waiting:
            try:
                for merged in merge_in_slices(store.path, place, path, touching):
                    if merged is not None and not self._take_in(merged, recording):
                        self._later()
                        return
                    yield
            except UnreadableError as error:  # of this interval; the others can be merged
                unreadable = error
        with fallback.on_fallback(place, touching):
            fallback.remove_empty_days(place)
            self._stores.held_bytes = fallback.held_bytes(place)
        if unreadable is not None:
            self.postpone(unreadable)
            return
        self.done, self.error = True, None

    def _take_in(self, merged: Merged, recording: Recording) -> bool:
        if not recording.say_sealed(merged.seal):
            return False
        self._moved(merged.records)
        log.info("%s: %d records merged from the fallback", merged.seal.path, merged.records)
        return True

    def _later(self) -> None:
        self._slices = None
        self._at = time.monotonic() + AGAIN_S
