"""Placement: where the writer records, the archive or the fallback, and how it comes back.

The states and what leads from one to the other are drawn in `observer.archive.faults`. Here they are carried out: `stores`
opens and leaves, `moving_back` merges, the prober is asked through the board.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Any

from observer.archive import fallback
from observer.archive.faults import TRIED_AGAIN, ChangedError, ForeignError, Found, Outage, Standing, why_not_return
from observer.archive.recovery import newer_of
from observer.archive.slots import OpenSegment
from observer.board import PROBER
from observer.clock import mono_ns, wall_ns
from observer.roles.accounts import came_back, leave_archive
from observer.roles.compressing import Compressing
from observer.roles.moving_back import MovingBack
from observer.roles.outages import begun, resting
from observer.roles.recording import Recording
from observer.roles.role import Context
from observer.roles.stores import Stores
from observer.sinks.jsonl import LostError
from observer.sinks.store import ARCHIVE, FALLBACK, Store

log = logging.getLogger("observer.writer")

LOOK_S = 1.0  # how often it is asked whether another hand has changed something

_HELD = "records are held in memory, nothing is acknowledged"


class Placement:
    """Where the writer records.

    Args:
        context: the writer's.

    Attributes:
        recording: the writer's work; None until a store could be opened for the first time.
        outage: the archive's fault, None when there is none.
        fallback_outage: the fallback's fault, None when there is none that is known.
    """

    def __init__(self, context: Context) -> None:
        self.recording: Recording | None = None
        self.outage: Outage | None = None
        self.fallback_outage: Outage | None = None
        self._context = context
        self._board = context.board
        self._config = context.settings.config
        self._paths = context.settings.paths
        self._stores = Stores(context.settings, context.board, context.beat)
        self._moving = MovingBack(self._stores, self._count_moved)
        self._compressing = Compressing(context.board, self._paths.asset_dir)
        self._store: Store | None = None
        self._proof = 0  # `Recording.commits` when the store was last suspected
        self._probe_asked = 0
        self._why_not = ""
        self._look_at = 0.0
        self._orphans: list[OpenSegment] = []  # deleted by another hand, saved by the next store that is opened

    @property
    def standing(self) -> Standing:
        """Where the writer records now."""
        if self._store is None or self._waits_for_resources():
            return Standing.HELD
        if self._store.name == FALLBACK:
            return Standing.FALLBACK
        return Standing.OK if self._moving.done or self._moving.error else Standing.RETURNING

    def turn(self, idle_s: float) -> bool:
        """One turn: record, and do what the state asks for.

        Args:
            idle_s: how long to wait for records when nothing is due.

        Returns:
            Whether a store takes records; if not, the caller waits a little.
        """
        now = time.monotonic()
        if self.outage is not None and self.outage.until_wall and now >= self.outage.forget_at:
            self.outage = None
        if self._store is None:
            self._find_store(now)
        elif self._store.name == FALLBACK and self.outage is not None and self._may_return(self.outage, now):
            self._return(now)
        if self._store is None or self._waits_for_resources():
            return False
        try:
            self._work(self._store, idle_s)
        except OSError as error:
            self._refused(self._store.blame(error), time.monotonic())
        return True

    def finish(self) -> None:
        """Take what is in the lanes, commit, and close.

        Raises:
            OSError: the store refused; what was not acknowledged is not on disk.
        """
        if self._store is None or self.recording is None:
            raise OSError(None, "no store takes records")
        self.recording.finish()
        if self._store.name == FALLBACK:
            self._store.release()
        else:
            self._store.leave()
        self._store = None

    def facts(self) -> dict[str, Any]:
        """What the writer's note says of it: ``archive``, ``fallback`` and ``faults``."""
        standing, stores, store = self.standing, self._stores, self._store
        archive: dict[str, Any] = {
            "root": str(self._paths.asset_dir),
            "rule": self._paths.rule,
            "state": "missing_mount" if standing is Standing.HELD and stores.missing else standing.value,
            "locked": stores.locked or (store is not None and store.name == ARCHIVE),
        }
        if stores.root is not None:
            archive |= {"uuid": stores.root.uuid, "device": f"{os.major(stores.root.device)}:{os.minor(stores.root.device)}"}
        place = None
        if stores.fallback_at is not None:
            added = store.added if store is not None and store.name == FALLBACK else 0
            place = {"path": str(stores.fallback_at), "bytes": stores.held_bytes + added, "volatile": stores.volatile}
        return {"archive": archive, "fallback": place, "faults": self._faults()}

    # ------------------------------------------------------------------------------------------------ recording

    def _work(self, store: Store, idle_s: float) -> None:
        assert self.recording is not None
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            self._stores.look(store, elsewhere=self.fallback_outage is None)
        moving = store.name == ARCHIVE and self._moving.running
        self.recording.turn(0.0 if moving else idle_s)
        if moving:
            self._moving.step(self.recording, store)
            if self._moving.error is not None:
                self._suspect_fallback(self._moving.error)
            elif self._moving.done:
                self.fallback_outage = None
        elif store.name == ARCHIVE and self.recording.quiet and self.outage is None:
            self._compressing.step(time.monotonic())
        self._end_outages(store)

    def _end_outages(self, store: Store) -> None:
        """A turn without an error proves nothing, it may have had nothing to write: a fault lasts until something is durable."""
        assert self.recording is not None
        proven = not self.recording.stalled and self.recording.commits > self._proof
        now, outage, waiting = time.monotonic(), self.outage, self.fallback_outage
        if store.name == FALLBACK:
            self.fallback_outage = None if proven else waiting
            return
        if outage is not None and not outage.until_wall and proven and (self._moving.done or self._moving.error):
            outage.end(now, time.time())
        if waiting is not None and self._moving.done and now >= waiting.try_at:  # of no use, and nothing is there: and now?
            self._stores.at(FALLBACK)
            try:
                self._stores.try_fallback()
                self.fallback_outage = None
            except OSError:
                waiting.again()
            finally:
                self._stores.at(ARCHIVE)

    def _refused(self, error: OSError, now: float) -> None:
        """The store we record to, or the archive under a merge, refused."""
        assert self.recording is not None
        assert self._store is not None
        self.recording.fault(error)
        self._proof = self.recording.commits
        self._moving.stop()
        self._compressing.stop()
        if self._store.name == FALLBACK:
            self._suspect_fallback(error)
            self._leave(self._store, error)
            return
        self.outage = begun(self.outage, error, now, ARCHIVE)
        if self.outage.of != "space":
            self._stores.drop_lock()
        if self.outage.of == "space":  # whoever holds the archive's lock asks: the janitor deletes on it
            self._board.cell("archive.sweep_wanted").add()
        if self.outage.of == "resources":
            return  # to move would need what is missing
        self._leave(self._store, error)
        self._find_store(now)

    def _leave(self, store: Store, error: OSError) -> None:
        """Leave the store: what it still takes is made durable, the rest must come again."""
        assert self.recording is not None
        if isinstance(error, ChangedError):
            self.recording.give_up()  # who knows where it would become durable
        elif not isinstance(error, LostError):
            self.recording.settle()
        with contextlib.suppress(OSError):
            for lost in store.sink.shortened():
                self.recording.say_lost(*lost, "were cut away by another hand", wall_ns())
            self._orphans += store.sink.orphans()
        self._store = None
        self._stores.leave(store, error)
        if store.name == ARCHIVE:
            leave_archive(self._board)

    # ------------------------------------------------------------------------------------------- opening stores

    def _find_store(self, now: float) -> None:
        """Nothing takes records: the archive if it may be tried, else the fallback."""
        if self.outage is None:
            try:
                self._begin(self._stores.open_archive())
            except OSError as error:
                self.outage = begun(None, error, now, ARCHIVE)
        elif self._may_return(self.outage, now):
            self._return(now)
        if self._store is not None or self._stores.fallback_at is None or resting(self.fallback_outage):
            return
        try:
            self._begin(self._stores.open_fallback())
        except OSError as error:
            self._suspect_fallback(error)

    def _begin(self, store: Store) -> None:
        """Record to ``store``: for the first time in this process, or because the one before refused."""
        if store.name == FALLBACK:
            leave_archive(self._board)  # before anything of the fallback is acknowledged
        try:
            if self.recording is None:
                self.recording = self._first_recording(store)
            else:
                self.recording.move(store)
                if store.name == ARCHIVE:
                    self.recording.found(store.sink.newest)
        except BaseException:
            store.leave()  # its lock would keep every later attempt out
            raise
        if store.name == ARCHIVE:
            came_back(self._board)
        if store.sink.torn:
            log.warning("recovered: torn tails were cut: %s", store.sink.torn)
        self._store = store
        self._proof = self.recording.commits
        try:
            self._save_orphans(store)
        except OSError as error:
            self._refused(error, time.monotonic())

    def _first_recording(self, store: Store) -> Recording:
        """Begin with what the files of both stores show, if an earlier life or an earlier writer left something on the fallback."""
        shown, newest = dict(store.sink.shown), store.sink.newest
        other = self._look_at_fallback() if store.name == ARCHIVE else None
        if other is not None:
            for key, seq in other.sink.shown.items():
                shown[key] = max(seq, shown.get(key, 0))
            newest = newer_of(newest, other.sink.newest)
        recording = Recording(self._context, store, shown, self._context.beat)
        if store.name == ARCHIVE:  # else what was recorded before this service's life is not known yet
            recording.found(newest)
        store.sink.publish()  # not before the acknowledgements: see `JsonlFileSink.recover`
        if other is not None:
            other.release()
        return recording

    def _look_at_fallback(self) -> Store | None:
        place = self._stores.fallback_at
        if place is None:
            return None
        self._stores.at(FALLBACK)
        try:
            self._stores.claim_fallback()
            if not fallback.pending(place) and not fallback.pending_flights(place):
                return None
            self._moving.want()
            return self._stores.open_fallback()
        except OSError as error:
            if not isinstance(error, ForeignError):
                self._moving.postpone(error)  # what is there is not known
            self._suspect_fallback(error)
        finally:
            self._stores.at(ARCHIVE)
        return None

    def _save_orphans(self, store: Store) -> None:
        """Write what deleted files held, durably: it was acknowledged, and only our open descriptors keep it."""
        while self._orphans:
            segment = self._orphans[0].segment
            store.sink.save(self._orphans[0])
            log.warning("%s was deleted by another hand; its %d bytes are saved on the %s", segment.path, segment.size, store.name)
            self._orphans.pop(0).segment.close()

    # ---------------------------------------------------------------------------------------------- the way back

    def _may_return(self, outage: Outage, now: float) -> bool:
        """Whether the prober found that the archive takes records; asks it when it is time."""
        note = self._board.note(PROBER).read()
        if note is not None and note["at"] > self._probe_asked > 0:
            self._probe_asked = 0
            found, disk = Found(note["error"], note["used"], note["free"], note["size"]), self._config.disk
            held = self._stores.held_bytes + (self._store.added if self._store is not None else 0)
            self._why_not = why_not_return(outage.of, found, held, disk.clean, disk.stop, self.standing)
            if not self._why_not and not self._stores.hangs(ARCHIVE):
                return True
        if now >= outage.try_at:
            outage.again()
            if outage.of == "space" and self._stores.locked:
                self._board.cell("archive.sweep_wanted").add()
            self._probe_asked = self._probe_asked or mono_ns()
            self._board.cell("archive.probe_wanted").add()
        return False

    def _return(self, now: float) -> None:
        """The archive takes records again: new ones go there first, then what the fallback holds."""
        try:
            store = self._stores.open_archive()
        except OSError as error:
            self.outage = begun(self.outage, error, now, ARCHIVE)
            if self.outage.of != "space":
                self._stores.drop_lock()
            self._stores.at(FALLBACK)
            return
        old, self._store = self._store, None
        if old is not None and self.recording is not None:
            self._stores.at(FALLBACK)
            self.recording.settle()  # before it learns what the archive's files show: see `Recording.learn`
            if old.sink.uncut():
                old.leave()  # its slots say what is to be cut before it is merged
            else:
                old.release()
            self._stores.at(ARCHIVE)
        self._moving.want()
        self._begin(store)
        self._prove(now)

    def _prove(self, now: float) -> None:
        """Something is to become durable soon on the store that was opened: it proves that the fault is over."""
        if self._store is None or self.recording is None:
            return
        try:
            self.recording.write_flight()
        except OSError as error:
            self._refused(error, now)

    def _count_moved(self, records: int) -> None:
        if self.outage is not None:
            self.outage.moved += records

    # ---------------------------------------------------------------------------------------------------- faults

    def _suspect_fallback(self, error: OSError) -> None:
        self.fallback_outage = begun(self.fallback_outage, error, time.monotonic(), FALLBACK)

    def _waits_for_resources(self) -> bool:
        outage = self.outage if self._store is not None and self._store.name == ARCHIVE else None
        return outage is not None and outage.of == "resources" and resting(outage)

    def _faults(self) -> list[dict[str, object]]:
        faults = []
        if self.outage is not None:
            fault = self.outage.as_fault(self._action())
            if missing := self._stores.missing:
                fault |= {"kind": "missing_mount", "what": missing.what, "hint": missing.hint}
            faults.append(fault)
        if self.fallback_outage is not None:
            if self._store is None:
                faults.append(self.fallback_outage.as_fault(_HELD))
            else:
                faults.append(self.fallback_outage.as_fault("the archive takes the records; the fallback is tried again", "warning"))
        return faults

    def _action(self) -> str:
        standing, place = self.standing, self._stores.fallback_at
        if standing is Standing.RETURNING:
            return f"records go to the archive again, what the fallback {place} holds is moved back"
        if standing is Standing.OK:
            return "records go to the archive again"
        why = f"; the archive waits: {self._why_not}" if self._why_not else ""
        if standing is Standing.FALLBACK:
            gone = ", which vanishes with the power" if self._stores.volatile else ""
            return f"records go to the fallback {place}{gone}; {TRIED_AGAIN}{why}"
        return f"{_HELD}; {TRIED_AGAIN}{why}"
