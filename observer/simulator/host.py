"""The simulated KIS host: one thread that owns everything.

    REST and control threads ──call()──▶ ┌──────────────────────────────────────────────┐
    WebSocket clients ◀── select() ────▶ │ loop: calls, sockets, then a slice of market │──▶ truth, then sockets
                                         └──────────────────────────────────────────────┘

Market, tokens, faults and connections are touched by this loop only, so nothing here needs a lock: HTTP threads hand their
work in with `call()` and wait for its result. A slice lasts `SLICE_S`; its records go to the truth in one write and to each
socket in one send, in this order.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from observer.clock import SECOND_NS, mono_ns, wall_ns
from observer.model.truth import NOBODY, answer_line, event_line, record_line
from observer.simulator.arrivals import Arrivals
from observer.simulator.auth import Auth
from observer.simulator.connection import Connection
from observer.simulator.faults import Faults
from observer.simulator.hours import Hours
from observer.simulator.market import BOOK_TRS, TRADE_TRS, UNIFIED, Market, Told, moment_at, on_nxt
from observer.simulator.rest import Request, Rest
from observer.simulator.subscriptions import PINGPONG, Subscriptions
from observer.simulator.terms import UNAVAILABLE, Answer, Terms, closed_for_maintenance
from observer.simulator.truth import TruthFile

log = logging.getLogger("observer.simulator")

SLICE_S = 0.005
IDLE_S = 0.5
CLOSED_S = 0.05  # a market that is closed looks at the time so often
BEHIND_S = 0.25  # a host that was held up makes good for so much, and forgets the rest
CALL_S = 10.0

T = TypeVar("T")
Pair = tuple[str, str]


class Host:
    """The host.

    Args:
        seed: the market's and the faults' seed.
        symbols: the stocks that trade from the start.
        rate: trades a second over all stocks.
        books_rate: order books a second over all subscribed books.
        terms: the limits in force.
        truth: path of the truth file, or None.
        address: where the WebSocket side listens; port 0 takes any.
        calendar: when the market trades, ``always`` or ``krx``.

    Raises:
        OSError: the address is taken, or the truth cannot be written.
    """

    def __init__(
        self, seed: int, symbols: list[str], rate: float, books_rate: float, terms: Terms, truth: Path | None, address: tuple[str, int],
        calendar: str = "always",
    ) -> None:  # fmt: skip
        self.terms, self.rate, self.books_rate = terms, rate, books_rate
        self._listener = socket.create_server(address, backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._truth = TruthFile(truth)
        self.hours = Hours(calendar, wall_ns())
        self.market = Market(seed, symbols, moment_at(wall_ns()), begun=self.hours.begun)
        self.auth = Auth(terms)
        self.faults = Faults(seed)
        self.arrivals = Arrivals()
        self.rest = Rest(self.market, self.auth, terms, self.faults)
        self.subscriptions = Subscriptions(self.auth, terms, self.faults)
        self.connections: dict[int, Connection] = {}
        self.counts: Counter[str] = Counter()
        self.accepted = 0
        self.stopping = False
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._bell_in, self._bell_out = socket.socketpair()
        for end in (self._bell_in, self._bell_out):
            end.setblocking(False)
        self._selector.register(self._bell_out, selectors.EVENT_READ, None)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._moment, self._moment_second = moment_at(wall_ns()), 0
        self._trade_credit = self._book_credit = 0.0
        self._last = mono_ns()
        self._wanted_books: list[Pair] = []

    @property
    def truth_path(self) -> Path | None:
        """Where the truth is written."""
        return self._truth.path

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the loop and return what it returns; for other threads.

        Raises:
            TimeoutError: the loop did not get to it.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - handed to the caller, who asked for it
                future.set_exception(error)

        self._calls.put(run)
        self.wake()
        return future.result(CALL_S)

    def answer(self, request: Request) -> tuple[Answer | None, float]:
        """Answer a REST request, from any thread: the answer (None: throw the client out) and the seconds to wait before it."""

        def work() -> tuple[Answer | None, float]:
            wall, mono = wall_ns(), mono_ns()
            self.arrivals.add(request.path, request.arrived)
            if self.faults.connections_refused(mono):
                return None, 0.0
            if self.faults.maintained(mono):
                return closed_for_maintenance(), 0.0
            answer = self.rest.answer(request, wall, mono)
            if answer.rows:
                self._truth.write([answer_line(wall, request.headers["tr_id"], answer.rows)])
            return answer, self.faults.rest_delay_ns / SECOND_NS

        return self.call(work)

    def wake(self) -> None:
        """Let the loop turn now; safe in a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._bell_in.send(b"\0")

    def stop(self) -> None:
        """Let `run` return soon; safe in a signal handler and in any thread."""
        self.stopping = True
        self.wake()

    def run(self, until_mono: int | None = None) -> None:
        """Serve until `stop` is called or the monotonic time ``until_mono`` (ns) has come; then close everything properly.

        Raises:
            OSError: the truth cannot be written, so nothing more may be sent.
        """
        self.event("start", NOBODY, {"seed": self.market.seed, "rate": self.rate, "paper": self.terms.paper})
        try:
            while not self.stopping and (until_mono is None or mono_ns() < until_mono):
                self._turn()
        except OSError:
            for connection in self.connections.values():
                connection.reset("what is queued is not in the truth")
            raise
        finally:
            self._finish()

    def event(self, name: str, conn: int, data: dict[str, Any]) -> None:
        """Write an event to the truth."""
        self._truth.write([event_line(wall_ns(), name, conn, data)])

    def open_connections(self, numbers: list[int] | None = None) -> list[Connection]:
        """The connections that frames can be sent to; all, or those with the ``numbers``."""
        return [each for each in self.connections.values() if each.open and (not numbers or each.number in numbers)]

    def cut(self, connection: Connection, how: str, code: int) -> None:
        """End a connection: ``how`` is `rst`, `fin` or `close` (closing handshake with ``code``)."""
        self.subscriptions.forget(connection)
        if how == "rst":
            connection.reset("cut with a reset")
        elif how == "fin":
            connection.finish("cut with an end of file")
        else:
            connection.close(code, f"closed by the server with {code}", mono_ns())
        self._reap(connection)

    def _turn(self) -> None:
        ready = self._selector.select(self._wait_s())
        mono = mono_ns()
        clients = sorted((key.data.number, mask) for key, mask in ready if key.data is not None)
        for number, mask in clients:  # oldest first, so that a dead session frees its key before the next one asks for it
            if number in self.connections:
                self._serve(self.connections[number], mask, mono)
        if any(key.fileobj is self._listener for key, _ in ready):
            self._accept(mono)
        if any(key.fileobj is self._bell_out for key, _ in ready):
            self._run_calls()
        self._slice(mono_ns(), wall_ns())

    def _wait_s(self) -> float:
        if any(each.blocked or each.next_due() is not None for each in self.connections.values()):
            return SLICE_S
        waits = [IDLE_S, self.terms.ping_s if self.connections else IDLE_S]
        if not self.hours.trading:
            waits.append(CLOSED_S)
        elif self.rate > 0 and self.market.trading:
            waits.append((1 - self._trade_credit) / self.rate)
        if self.books_rate > 0 and self._wanted_books:
            waits.append((1 - self._book_credit) / self.books_rate)
        return max(SLICE_S, min(waits))

    def _run_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell_out.recv(4096)
        with contextlib.suppress(Empty):
            while True:
                self._calls.get_nowait()()

    def _accept(self, mono: int) -> None:
        try:
            sock, peer = self._listener.accept()
        except OSError as error:
            log.warning("a connection could not be accepted: %s", error)
            return
        self.accepted += 1
        away = UNAVAILABLE if self.faults.maintained(mono) else 0
        connection = Connection(self.accepted, sock, f"{peer[0]}:{peer[1]}", mono, away)
        if self.faults.connections_refused(mono):
            connection.reset("refused on purpose")
            return
        self.connections[connection.number] = connection
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self.event("connected", connection.number, {"peer": connection.peer})

    def _serve(self, connection: Connection, mask: int, mono: int) -> None:
        if mask & selectors.EVENT_READ:
            for text in connection.receive(mono):
                self._hear(connection, text, mono)
            if not connection.open:
                self.subscriptions.forget(connection)
        else:
            connection.flush(mono)
        self._reap(connection)

    def _hear(self, connection: Connection, text: str, mono: int) -> None:
        if not connection.open:
            return
        reply = self.subscriptions.answer(connection, text, wall_ns(), mono)
        if not reply.text:
            return
        if reply.change:
            self._changed(connection, reply.change, reply.tr, reply.symbol)
        if not self.faults.silent(mono):
            connection.send(reply.text, mono)
        if reply.close:
            connection.close(1000, "closed by the server: the app key is in use", mono)

    def _changed(self, connection: Connection, change: str, tr: str, symbol: str) -> None:
        issue = self.market.join(symbol, self._moment)
        if tr in TRADE_TRS and (TRADE_TRS[tr] != UNIFIED or on_nxt(symbol)):
            issue.tape(TRADE_TRS[tr], self._moment)
        self._wanted_books = sorted(pair for pair in self.subscriptions.listeners if pair[0] in BOOK_TRS)
        self.event(change, connection.number, {"tr": tr, "symbol": symbol})

    def _reap(self, connection: Connection) -> None:
        if connection.ended:
            if self.connections.pop(connection.number, None) is None:
                return
            self._selector_forget(connection)
            self.subscriptions.forget(connection)
            self._wanted_books = sorted(pair for pair in self.subscriptions.listeners if pair[0] in BOOK_TRS)
            unsent = {"why": connection.ended, "records": connection.records, "unsent_bytes": connection.waiting}
            self.event("closed", connection.number, unsent)
            log.info("connection %d %s", connection.number, connection.ended)
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.blocked else 0)
        if self._selector.get_key(connection.sock).events != mask:
            self._selector.modify(connection.sock, mask, connection)

    def _selector_forget(self, connection: Connection) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is connection:
                self._selector.unregister(key.fileobj)

    def _slice(self, mono: int, wall: int) -> None:
        elapsed = min((mono - self._last) / SECOND_NS, BEHIND_S)
        self._last = mono
        lines: list[str] = []
        if wall // SECOND_NS != self._moment_second:
            self._moment, self._moment_second = moment_at(wall), wall // SECOND_NS
            if self.hours.look(wall):
                self._tell_trades(self.market.auction(self._moment), mono, wall, lines)
            self.market.begun = self.hours.begun
        if not self.hours.trading:
            elapsed = 0.0
        self._trade(elapsed, mono, wall, lines)
        self._tell_books(elapsed, mono, wall, lines)
        self._truth.write(lines)
        for connection in list(self.connections.values()):
            self._ping(connection, mono)
            connection.flush(mono)
            self._reap(connection)

    def _trade(self, elapsed: float, mono: int, wall: int, lines: list[str]) -> None:
        self._trade_credit += self.rate * elapsed
        moment, market = self._moment, self.market
        while self._trade_credit >= 1 and market.trading:
            count, told = market.trade(moment, self.faults.burst)
            self._trade_credit -= count
            self._tell_trades(told, mono, wall, lines)

    def _tell_trades(self, told: list[Told], mono: int, wall: int, lines: list[str]) -> None:
        for tr, symbol, records in told:
            self.counts["trades"] += len(records)
            self._tell(tr, symbol, records, mono, wall, lines)

    def _tell_books(self, elapsed: float, mono: int, wall: int, lines: list[str]) -> None:
        if not self._wanted_books:
            self._book_credit = 0.0
            return
        self._book_credit += self.books_rate * elapsed
        count = int(self._book_credit)
        self._book_credit -= count
        for tr, symbol, records in self.market.books(self._wanted_books, count, self._moment):
            self.counts["books"] += 1
            self._tell(tr, symbol, records, mono, wall, lines)

    def _tell(self, tr: str, symbol: str, records: list[str], mono: int, wall: int, lines: list[str]) -> None:
        """Write the records of one frame to ``lines`` and queue the frame for whoever is subscribed."""
        listeners = self.subscriptions.listeners.get((tr, symbol))
        if not listeners:
            lines += [record_line(wall, NOBODY, tr, symbol, record) for record in records]
            return
        faults = self.faults
        if faults.grown and tr in TRADE_TRS:
            records = [record + faults.grown for record in records]
        silent = faults.silent(mono)
        for connection in listeners:
            kept = records
            if (mute := silent or symbol in connection.muted) or faults.keeps_back:
                kept = []
                for record in records:
                    skipped = mute or faults.skip()
                    lines.append(record_line(wall, connection.number, tr, symbol, record, skipped))
                    if not skipped:
                        kept.append(record)
                self.counts["skipped"] += len(records) - len(kept)
                if not kept:
                    continue
            else:
                lines += [record_line(wall, connection.number, tr, symbol, record) for record in records]
            connection.records += len(kept)
            self.counts["sent"] += len(kept)
            connection.send(f"0|{tr}|{len(kept):03d}|{'^'.join(kept)}", mono)

    def _ping(self, connection: Connection, mono: int) -> None:
        if not connection.open:
            return
        terms, unanswered = self.terms, connection.unanswered_since
        if terms.pong_s and unanswered and mono - unanswered > terms.pong_s * SECOND_NS:
            connection.finish("PINGPONG was not answered")
        elif mono - connection.last_ping >= terms.ping_s * SECOND_NS and self.faults.pings_allowed(mono):
            connection.last_ping = mono
            connection.unanswered_since = unanswered or mono
            stamp = f"{self._moment.date}{self._moment.hms}"
            connection.send(f'{{"header":{{"tr_id":"{PINGPONG}","datetime":"{stamp}"}}}}', mono)

    def _finish(self) -> None:
        mono = mono_ns()
        for connection in list(self.connections.values()):
            connection.close(1001, "the simulator ends", mono)
        self._run_calls()
        for connection in list(self.connections.values()):
            connection.finish("the simulator ends")
            self._reap(connection)
        self._listener.close()
        with contextlib.suppress(OSError):
            self.event("stop", NOBODY, dict(self.counts))
        self._truth.close()
        self._selector.close()
        self._bell_in.close()
        self._bell_out.close()
