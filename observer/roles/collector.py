"""The collector: speaks with the broker, and gives every record to the pipeline at once.

    REST thread (swing, calendar) ──┐
                                    ├──▶ Flow ──▶ producer ──▶ lane ──▶ writer
    WebSocket thread (scalp) ───────┘
    main loop, every 20 to 80 ms: hears acknowledgements, looks at the time, tells incidents and faults, publishes, beats

Guarantees: the main loop beats only while every source gives signs of life; a source that ended ends the collector, after
what it had received was delivered; stopping closes the broker session in order and drains what is held.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager

from observer.clock import SECOND_NS, mono_ns, wall_ns
from observer.collectors import number_of
from observer.config import Credentials, load_credentials
from observer.errors import EXIT_BUG, EXIT_OK
from observer.gaps.chain import Key
from observer.gaps.earlier import Earlier
from observer.gaps.missing import Missing
from observer.gaps.polled import Polled
from observer.kis.auth import Keyring
from observer.kis.calendar import CalendarKeeper
from observer.kis.http import Transport
from observer.kis.pacing import Pace
from observer.kis.reconnect import Reconnect
from observer.kis.rest import Quotations
from observer.kis.stream import Stream
from observer.kis.subscriptions import Subscriptions
from observer.kis.universe import Universe
from observer.model.fields import MULTI_PRICE, SINGLE_PRICE, is_trade
from observer.model.load import EVERY
from observer.model.trading_day import TradingCalendar
from observer.pipeline.flow import Flow
from observer.pipeline.guard import GuardRules
from observer.roles.backlog import Backlog, filling
from observer.roles.channel_watch import ChannelWatch
from observer.roles.collector_note import current_faults, note
from observer.roles.earlier_polls import EarlierPolls, polls_reader
from observer.roles.faults import FaultBook
from observer.roles.incidents import RESTART_S, Blindness
from observer.roles.poll_gaps import PollGaps
from observer.roles.polling import SwingPoller
from observer.roles.portion import Portion
from observer.roles.presence import Presence
from observer.roles.reading_back import ReadBack
from observer.roles.receiving import ScalpReceiver, SwingReceiver
from observer.roles.role import Context
from observer.roles.source import Source
from observer.roles.succession import EARLIER, Succession
from observer.roles.tail_check import TailCheck
from observer.roles.thinning import Thinning
from observer.roles.tick_gaps import TickGaps, trades_reader
from observer.roles.universe_telling import UniverseTeller, download_from
from observer.status.view import JANITOR

log = logging.getLogger("observer.collector")

TICK_S = 0.02
LOOK_NS = SECOND_NS // 10
NOTE_S = 0.5
SOURCES_END_S = 3.0
DRAIN_SHARE = 0.6  # of stop_timeout; the rest is the writer's and the janitor's
FAILED_DRAIN_S = 2.0


def main(context: Context) -> int:
    """Collect until asked to stop; returns the exit code.

    Raises:
        ConfigError: there are no credentials.
    """
    pairs = load_credentials(context.settings.environ, context.settings.config.kis.keys)
    collector = Collector(context, pairs[number_of(context.instance) - 1])
    collector.start()
    while not context.stopping.is_set() and not collector.broken():
        collector.turn()
        context.stopping.wait(collector.tick_s)
    return collector.finish()


class Collector:
    """The sources and what is known of them.

    Args:
        context: the role's.
        credentials: of the broker, ours alone.
    """

    def __init__(self, context: Context, credentials: Credentials) -> None:
        config = context.settings.config
        self._context = context
        self._producer = context.producer()
        self._succession = Succession(context, self._producer)
        self._cell, self._neighbours = self._succession.cell, self._succession.neighbours
        self._gaps, self._polls = self._succession.gaps, self._succession.polls
        self.polled: ReadBack | None = None
        self._configured_ns = self._neighbours.configured_ns
        self._portion = Portion(config, context.instance)
        self._faults = FaultBook()
        self._transport = Transport(config.kis.effective_rest_url)
        self.pace = Pace(config.kis.requests_per_second, self._cell("rest_next"), self._cell("rest_gap"), self._cell("rest_gap_at"))
        self._keyring = Keyring(credentials, self._transport, context.settings.paths.cache_dir, self._place)
        self.sources: list[Source] = []
        self.blind: dict[str, Blindness] = {}
        self.flows: dict[str, Flow] = {}
        self._stale_said = False
        self._note_at = 0.0
        self._look_at = 0
        self._build_swing()
        self.subscriptions = Subscriptions((tr, symbol) for tr in config.scalp.trs for symbol in self._portion.scalp)
        self.stream: Stream | None = None
        self.scalp: ScalpReceiver | None = None
        self.earlier: ReadBack | None = None
        self.backlog: Backlog | None = None
        self.background = Quotations(self._transport, self._keyring, self.pace, context.stopping, lambda: None)
        self.watch: ChannelWatch | None = None
        if self.subscriptions.desired:
            self._build_scalp()
        elif self._portion.first:
            self._fill_alone()

    @property
    def tick_s(self) -> float:
        """How long to wait until the next turn, seconds."""
        return self._producer.tick_s

    def start(self) -> None:
        """Begin to receive."""
        for source in self.sources:
            source.start()
        if self.backlog is not None:  # not a source: should it hang or end, live data goes on
            threading.Thread(target=self.backlog.run, name="backfill", daemon=True).start()

    def broken(self) -> bool:
        """Whether a source ended though nobody asked it to."""
        return not self._context.stopping.is_set() and any(source.ended() for source in self.sources)

    def turn(self) -> None:
        """One turn of the main loop."""
        now = mono_ns()
        self._producer.tick()
        for blindness in self.blind.values():
            blindness.look()
        if now >= self._look_at:
            self._look_at = now + LOOK_NS
            for flow in self.flows.values():
                flow.tick(now)
            self._watch(now)
            self.thinning.tick(wall_ns())
            self._tell()
            self._publish(now)
        if all(source.fresh(now) for source in self.sources):
            self._context.beat()
            self._stale_said = False
        elif not self._stale_said:
            self._stale_said = True
            hanging = ", ".join(source.name for source in self.sources if not source.fresh(now))
            log.critical("no sign of life from %s: the collector stops beating and will be replaced", hanging)

    def finish(self) -> int:
        """Stop the sources, deliver what is held; returns the exit code."""
        broken = self.broken()
        self._context.stopping.set()
        patience = FAILED_DRAIN_S if broken else self._context.settings.config.supervisor.stop_timeout * DRAIN_SHARE
        deadline = time.monotonic() + patience
        ending = min(deadline, time.monotonic() + SOURCES_END_S)
        while time.monotonic() < ending and not all(source.ended() for source in self.sources):
            self._producer.tick()
            self._context.beat()
            time.sleep(TICK_S)
        for flow in self.flows.values():
            flow.flush()
        self.thinning.finish()
        for blindness in self.blind.values():
            blindness.stop(wall_ns())
        for _ in range(2):  # what had no room before the first one goes with the second
            drained = self._producer.drain(deadline, self._context.beat)
            self._tell()  # a word that still held what is durable by now would have it told again, by another list and interval
        self._transport.close()
        if not drained:
            log.error("stopping with %d bytes that are not acknowledged", self._producer.held_bytes)
        log.info("the sources are closed%s", ", everything received is durable" if drained else "")
        return EXIT_BUG if broken else EXIT_OK

    def _build_swing(self) -> None:
        context, config = self._context, self._context.settings.config
        paper = config.kis.environment == "paper"
        tr = SINGLE_PRICE if paper else MULTI_PRICE
        rules = GuardRules()
        if config.market.calendar == "krx":
            rules.business_date = self._business_date
        flow = self._flow("swing", rules)
        blindness = self._blindness("swing", config.swing.interval * max(EVERY), None) if self._portion.polls else None
        source = Source("swing", self._run_poller)
        self.quotations = Quotations(self._transport, self._keyring, self.pace, context.stopping, source.beat)
        nxt = any(tr.startswith(("H0NX", "H0UN")) for tr in config.scalp.trs) and bool(config.scalp.symbols)
        calendar = TradingCalendar(config.market.calendar, nxt)
        self.keeper = CalendarKeeper(calendar, context.settings.paths.cache_dir, None if paper else self.quotations.chk_holiday)
        put_system, room = self._producer.put_system, self._producer.room
        told = blindness.told if blindness is not None else deque()

        def follow(asked: frozenset[str]) -> None:
            rules.asked = {tr: asked}

        universe = Universe(
            self._portion.swing, config.swing.min_close, context.settings.paths.cache_dir,
            download_from(config.kis.effective_master_url) if self._portion.master else None,
            self.keeper.open_day, follow,
        )  # fmt: skip
        self.universe = UniverseTeller(universe, config.swing.interval, self._configured_ns, self.keeper.polling, put_system, source.beat)
        self.poll_gaps = PollGaps(tr, config.swing.interval, self._polls, told)
        self.swing = SwingReceiver(
            context.board, context.instance, flow, blindness, put_system, context.progress, source.beat, room, self.poll_gaps
        )
        self.thinning = Thinning(
            universe.symbols, config.swing.interval, context.board.cell(f"role.{JANITOR}.load").get,
            self.keeper.polling, self._succession.telling("thinned_from"), self._cell("thinned_by"),
            self._cell("poll_every"), self._succession.started_ns,
        )  # fmt: skip
        self.poller = SwingPoller(
            self._polled, config.swing.interval, paper, self.quotations, self.keeper, self.swing, context.stopping,
            self._cell("poll_cycle"), self.universe.turn,
        )  # fmt: skip
        self.sources.append(source)
        self._polled_before = blindness.predecessor if blindness is not None else self._succession.predecessor("swing")
        if blindness is not None or self._portion.first:  # it tells of what nobody polls any more
            self._look_back_at_polls(universe)

    def _build_scalp(self) -> None:
        context, config = self._context, self._context.settings.config
        flow = self._flow("scalp", GuardRules(asked=dict.fromkeys(config.scalp.trs, frozenset(self._portion.scalp))))
        blindness = self._blindness("scalp", 0.0, config.market.no_snapshots_after)
        source = Source("scalp", self._run_stream)
        put_system = self._producer.put_system
        self.scalp = ScalpReceiver(
            context.board, context.instance, flow, blindness, put_system, context.progress, source.beat, self._producer.wait_for_room
        )
        stream = self.stream = Stream(
            config.kis.effective_ws_url, self._keyring, self.subscriptions, Reconnect(self._cell("ws_attempts"), self._cell("ws_next")),
            self.scalp, lambda now_ns: self._neighbours.gone() and self.keeper.receiving(now_ns), context.stopping,
        )  # fmt: skip
        self.sources.append(source)
        self._find_gaps(flow, blindness, stream)

    def _find_gaps(self, flow: Flow, blindness: Blindness, stream: Stream) -> None:
        context, config, calls = self._context, self._context.settings.config, self.background
        trades = [key for key in self.subscriptions.desired if is_trade(key[0])]

        def counted(key: Key, total: int) -> None:
            gaps.counted(key, total)

        def settled(missing: Missing) -> None:
            gaps.settled((missing.stretch.tr, missing.stretch.symbol), missing.stretch.date, missing.hole)

        def watched(now_ns: int) -> None:
            watch.turn(now_ns)

        def known() -> bool:
            return self.earlier is not None and self.earlier.done

        def confirmed() -> list[Key]:
            return [key for key in self.subscriptions.confirmed if is_trade(key[0])]

        present = Presence(context.board, self.keeper, self._succession.started_ns, lambda: stream.state, known, self._producer.room)
        tail = TailCheck(calls, trades, present.just_closed, counted)
        backlog = self.backlog = filling(context, calls, self._gaps, self._producer, self._portion, settled, (tail.turn, watched))
        gaps = TickGaps(
            self._gaps, blindness.told, flow.shed_by_symbol, backlog.filler, present.from_the_opening, present.since_the_opening
        )
        watch = self.watch = ChannelWatch(calls, gaps, confirmed, present.session, stream.renew, config.market.no_snapshots_after)
        flow.taken = gaps.taken

        # Until it is known where the session before ended, nobody may forget that it must be asked.
        self._gaps.begin(EARLIER, min(blindness.predecessor.from_ns, self._gaps.inherited or blindness.predecessor.from_ns))

        def found(earlier: Earlier) -> None:
            gaps.earlier(earlier)
            self._gaps.release(EARLIER)
            backlog.take_over(context.settings.paths.asset_dir)

        self.earlier = ReadBack(
            "earlier trades", trades_reader(self._succession.roots, trades, self._producer.session, found), self._succession.hangs
        )

    def _fill_alone(self) -> None:
        """No ticks are wanted, so none are missed; those that were missed before can still be filled, today."""
        context = self._context
        backlog = self.backlog = filling(context, self.background, self._gaps, self._producer, self._portion, lambda _missing: None, ())
        self._before = self._succession.predecessor("scalp")
        self.earlier = ReadBack(
            "gaps left open", lambda _since_ns: backlog.take_over(context.settings.paths.asset_dir), self._succession.hangs
        )

    def _polled(self, due_ns: int) -> Sequence[str]:
        """The symbols that we poll in the cycle that is due then, wall ns."""
        return self.thinning(due_ns) if self._neighbours.gone() else ()

    def _look_back_at_polls(self, universe: Universe) -> None:
        listed = frozenset(self._context.settings.config.swing.symbols)
        earlier = EarlierPolls(
            self.poll_gaps, self.poller, self.keeper.polling, lambda: frozenset(universe.symbols(wall_ns())),
            lambda symbol: self._portion.first and symbol not in listed,
            self._configured_ns, self._context.board.get("supervisor.started_wall"),
        )  # fmt: skip
        # As for the trades: what may have been missed is not to be forgotten before it was looked for.
        self._polls.begin(EARLIER, self._succession.polls_from(self._polled_before))

        def found(polled: Polled, since_ns: int) -> None:
            self.thinning.earlier(lambda due_ns: polled.left_out(due_ns, self.poller.interval_ns), self.poller.due_at(wall_ns()))
            earlier.judge(polled, since_ns)
            self._polls.release(EARLIER)

        self.polled = ReadBack("earlier polls", polls_reader(self._succession.roots, found), self._succession.hangs)

    def _tell(self) -> None:
        """Tell what is to be told by now, and forget what is durable."""
        self.poll_gaps.tick(wall_ns(), lambda: self._producer.settled("swing"))
        self._succession.tell()

    def _run_poller(self) -> None:
        self.poller.run()

    def _run_stream(self) -> None:
        assert self.stream is not None, "the thread starts after everything is built"
        self.stream.run()

    def _place(self) -> AbstractContextManager[bool]:
        return self.pace.place(self._context.stopping, lambda: None)

    def _business_date(self) -> str:
        return self.keeper.calendar.business_date(wall_ns())

    def _flow(self, track: str, rules: GuardRules) -> Flow:
        flow = Flow(self._producer, rules, track)
        self.flows[track] = flow
        return flow

    def _blindness(self, track: str, cycle_s: float, silent_after_s: float | None) -> Blindness:
        predecessor = self._succession.predecessor(track)
        deadline = mono_ns() + int((RESTART_S + cycle_s) * SECOND_NS)
        incidents = self._succession.telling(f"blind_from_{track}")  # one that polls left untold says nothing of ticks
        alone = self._portion.alone if track == "scalp" else ()
        self.blind[track] = Blindness(track, incidents, predecessor, deadline, silent_after_s, alone)
        return self.blind[track]

    def _watch(self, now: int) -> None:
        """Look whether a track is blind."""
        wall = wall_ns()
        calendar = self.keeper.calendar
        self._neighbours.look()
        self._polled_before.look()
        if self._neighbours.closed():
            if self.stream is None:
                self._gaps.release(EARLIER)
            if self.polled is None:
                self._polls.release(EARLIER)
            elif self._polled_before.known():
                self.polled.turn(self._succession.polls_from(self._polled_before))
        if "swing" in self.blind:
            error = self.swing.error
            self.blind["swing"].tick(now, wall, error is None, calendar.polling(wall), False, lambda: str(error))
        if self.stream is not None:
            state, receiving, trading = self.stream.state, calendar.receiving(wall), calendar.trading(wall)
            self.blind["scalp"].tick(now, wall, state.name == "connected", receiving, trading, lambda: state.detail or state.name)
            before = self.blind["scalp"].predecessor
            if self.earlier is not None and before.known() and self._neighbours.closed():
                self.earlier.turn(self._succession.trades_from(before))
        elif self.earlier is not None:
            self._before.look()
            if self._before.known() and self._neighbours.closed():
                self.earlier.turn(wall)

    def _publish(self, now: int) -> None:
        now_s = now / SECOND_NS
        if now_s < self._note_at:
            return
        self._note_at = now_s + NOTE_S
        self._cell("desired").set(len(self.subscriptions.desired))
        self._cell("confirmed").set(len(self.subscriptions.confirmed))
        faults = self._faults.update(current_faults(self, self._context.settings.config))
        self._context.note(note(self, self._producer, faults))
