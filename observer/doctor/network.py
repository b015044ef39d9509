"""The network: our own port, the clock, and whether the broker can be reached. Nobody logs in, and no token is spent."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from observer import clock_sync
from observer.config import HttpConfig
from observer.doctor.host import UNIT, Host
from observer.doctor.result import CannotKnow, Result, fail, ok, unknown, warn

BROKER_S = 3.0
PORT_S = 2.0
_TLS = ("https", "wss")
_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
_OURS = "observer"  # how the service's answers name their server


def look_at_port(host: Host) -> Iterator[Result]:
    """[http] listen: our own service answers there, or it is free."""
    listen = host.known_settings().config.http
    active: bool | None = None
    if host.installed:
        with contextlib.suppress(CannotKnow):  # told by the line `service`; who answers is still to be seen
            active = host.unit_properties("ActiveState").get("ActiveState") == "active"
    yield judge_port(listen.listen, who_answers(listen, PORT_S), active)


def who_answers(listen: HttpConfig, timeout_s: float) -> str:
    """What answers at ``listen``: ``live``, ``not live`` (both: an Observer), ``free``, ``not ours``, ``other`` or ``silent``."""
    name, port = listen.address
    connection = http.client.HTTPConnection(_ANYWHERE.get(name, name), port, timeout=timeout_s)
    try:
        connection.request("GET", "/live")
        answer = connection.getresponse()
        if not answer.headers.get("Server", "").startswith(_OURS):
            return "other"
        return "live" if answer.status == http.HTTPStatus.OK else "not live"
    except TimeoutError:
        return "silent"
    except ConnectionRefusedError:
        return _bindable(name, port)
    except http.client.HTTPException:
        return "other"
    except OSError:
        return _bindable(name, port)
    finally:
        connection.close()


def _bindable(name: str, port: int) -> str:
    try:
        family, kind, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError:
        return "not ours"
    return "free"


def judge_port(listen: str, answers: str, active: bool | None) -> Result:
    """What the answer at ``listen`` means.

    Args:
        listen: as configured.
        answers: of `who_answers`.
        active: whether the unit is active; None: not known, or there is none.
    """
    port = listen.rpartition(":")[2]
    whose = f"`ss -ltnp 'sport = :{port}'` names it; end it, or choose another [http] listen"
    if answers == "live":
        if active is False:
            return warn("port", f"{listen}: an Observer answers, and it is not the unit's", whose)
        return ok("port", f"{listen}: Observer answers /live")
    if answers == "not live":
        return fail("port", f"{listen}: Observer answers, and its supervisor's loop does not turn", "observer status")
    if answers == "not ours":
        return fail("port", f"{listen} is no address and port that this host lets us have", "choose another [http] listen")
    if answers == "free":
        if active:
            return fail(
                "port", f"{listen}: nobody answers, and the unit is active", f"see `journalctl -u {UNIT} -e`: port taken, janitor gone?"
            )
        return ok("port", f"{listen} is free")
    if answers == "silent" and active:
        return fail("port", f"{listen}: no answer within {PORT_S:g} s", f"`observer status`; {whose}")
    return fail("port", f"{listen} is taken by something else", whose)


def look_at_clock(host: Host) -> Iterator[Result]:
    """Whether something keeps the wall clock right. The time zone does not matter: names are KST, by a fixed offset."""
    yield judge_clock(clock_sync.look(host.answer_s))


def judge_clock(sync: clock_sync.ClockSync) -> Result:
    """What the answer means: all names are made of the wall clock."""
    if sync.synchronised is None:
        return unknown("clock", sync.why, "`chronyc tracking` or `ntpq -p`, if one of them keeps the clock")
    if not sync.synchronised:
        hint = "timedatectl set-ntp true, or install chrony; after a boot it takes a minute"
        return warn("clock", "not synchronised: files would be named by a clock that drifts", hint)
    return ok("clock", "synchronised (the time zone does not matter: names are KST)")


def look_at_rest(host: Host) -> Iterator[Result]:
    """The broker's REST host."""
    yield reach("rest", host.known_settings().config.kis.effective_rest_url, BROKER_S)


def look_at_websocket(host: Host) -> Iterator[Result]:
    """The broker's WebSocket host."""
    yield reach("websocket", host.known_settings().config.kis.effective_ws_url, BROKER_S)


def look_at_master_files(host: Host) -> Iterator[Result]:
    """The host of the symbol master files, where they are wanted."""
    config = host.known_settings().config
    if config.swing.from_master:
        yield reach("master files", config.kis.effective_master_url, BROKER_S)


def reach(name: str, url: str, timeout_s: float) -> Result:
    """Connect to the host of ``url`` within ``timeout_s`` seconds, say nothing, and hang up."""
    split = urlsplit(url)
    host, port = split.hostname or "", split.port or _PORTS[split.scheme]
    place = f"{host}:{port}"
    begin = time.monotonic()
    try:
        addresses = _resolve(host, port, timeout_s)
    except TimeoutError:
        return fail(name, f"{place}: DNS did not answer within {timeout_s:g} s", "resolvectl status; /etc/resolv.conf")
    except (socket.gaierror, UnicodeError) as error:
        said = error.strerror if isinstance(error, socket.gaierror) else "no possible name"
        return fail(name, f"{place}: DNS gives no address: {said}", f"`resolvectl query {host}`; is [kis] of the configuration right?")
    try:
        kind = _greet(addresses, host, port, split.scheme, begin + timeout_s)
    except OSError as error:  # ssl.SSLError is one too
        what, hint = _refusal(error, host, port, timeout_s)
        return fail(name, f"{place}: {what}", hint)
    return ok(name, f"{place} answers, {kind} in {(time.monotonic() - begin) * 1000:.0f} ms")


def _greet(addresses: list[str], host: str, port: int, scheme: str, end: float) -> str:
    """Connect to the first address that answers before ``end``; how, in a word.

    Raises:
        OSError: none does, or TLS failed.
    """

    def left() -> float:
        return max(0.01, end - time.monotonic())

    for count, address in enumerate(addresses, 1):
        try:
            connection = socket.create_connection((address, port), left())
        except OSError:  # such as an IPv6 address on a host without a way there
            if count == len(addresses):
                raise
            continue
        with connection:
            if scheme not in _TLS:
                return "TCP"
            connection.settimeout(left())
            with _trust(scheme).wrap_socket(connection, server_hostname=host) as encrypted:
                return encrypted.version() or "TLS"
    raise TimeoutError


def _refusal(error: OSError, host: str, port: int, timeout_s: float) -> tuple[str, str]:
    """What went wrong and what to do, by the kind of failure."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}", "is the clock right? is there a proxy in between?"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.strerror or error}", "is it the right port? is there a proxy in between?"
    if isinstance(error, TimeoutError):
        return (
            f"no connection within {timeout_s:g} s",
            f"does a firewall drop it? `nc -vz {host} {port}`; outgoing TCP {port} must be allowed",
        )
    if isinstance(error, ConnectionRefusedError):
        return "refused", "maintenance at the broker, or a firewall that rejects; is [kis] of the configuration right?"
    return error.strerror or str(error), "ip route; ip address"


def _resolve(host: str, port: int, timeout_s: float) -> list[str]:
    """The addresses of ``host``. In a thread: getaddrinfo(3) knows no deadline, and this process ends without waiting for it."""
    answer: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def look() -> None:
        try:
            answer.put([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=look, name="dns", daemon=True).start()
    try:
        found = answer.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _trust(scheme: str) -> ssl.SSLContext:
    """Whom the service trusts: requests (https) brings its own authorities, the WebSocket takes the system's."""
    if scheme != "https":
        return ssl.create_default_context()
    from requests.utils import DEFAULT_CA_BUNDLE_PATH  # here: a library that is missing must not end the doctor

    return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
