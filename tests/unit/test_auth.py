"""Token and approval key: seldom issued, shared, secret."""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path

import pytest

from observer.clock import KST
from observer.config import Credentials
from observer.kis.auth import Grant, Keyring
from observer.kis.codes import Action, BrokerError
from observer.kis.http import Answer

CREDENTIALS = Credentials("key-" + "k" * 32, "secret-" + "s" * 173)
NOW = 1_795_000_000.0
TOO_OFTEN = Answer(403, {"error_code": "EGW00133", "error_description": "접근토큰 발급 잠시 후 다시 시도하세요(1분당 1회)"}, "")


def kst(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, KST).strftime("%Y-%m-%d %H:%M:%S")


class FakeHost:
    """Issues what it is told to, in order; the last answer stays."""

    base_url = "https://host.invalid:9443"

    def __init__(self, *answers: Answer | BrokerError) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, dict[str, str]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def post(self, path: str, body: dict[str, str]) -> Answer:
        self.gate.wait(5)
        self.posts.append((path, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BrokerError):
            raise answer
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def token(text: str, life_s: float = 86400.0, now: float = NOW) -> Answer:
    body = {"access_token": text, "token_type": "Bearer", "expires_in": 86400, "access_token_token_expired": kst(now + life_s)}
    return Answer(200, body, "")


def approval(text: str) -> Answer:
    return Answer(200, {"approval_key": text}, "")


def free() -> AbstractContextManager[bool]:
    """A pace that always has a place."""
    return nullcontext(True)


def cache_file(directory: Path, kind: str = "token") -> Path:
    (path,) = directory.glob(f"kis-{kind}-*.json")
    return path


def test_a_token_is_asked_for_as_the_protocol_says_and_kept(tmp_path: Path) -> None:
    host = FakeHost(token("token-one"))
    keyring = Keyring(CREDENTIALS, host, tmp_path / "cache", free, Clock())
    assert keyring.token() == keyring.token() == "token-one"
    assert host.posts == [
        (
            "/oauth2/tokenP",
            {"grant_type": "client_credentials", "appkey": CREDENTIALS.app_key, "appsecret": CREDENTIALS.app_secret},
        )
    ]


def test_the_approval_key_wants_the_secret_under_another_name(tmp_path: Path) -> None:
    host = FakeHost(approval("approval-one"))
    assert Keyring(CREDENTIALS, host, tmp_path, free, Clock()).approval_key() == "approval-one"
    assert host.posts[0][0] == "/oauth2/Approval"
    assert host.posts[0][1]["secretkey"] == CREDENTIALS.app_secret
    assert "appsecret" not in host.posts[0][1]


def test_the_cache_is_private_and_shared_with_the_next_process(tmp_path: Path) -> None:
    host = FakeHost(token("token-one"))
    Keyring(CREDENTIALS, host, tmp_path / "cache", free, Clock()).token()
    path = cache_file(tmp_path / "cache")
    assert path.stat().st_mode & 0o777 == 0o600
    assert CREDENTIALS.app_key not in path.name
    assert Keyring(CREDENTIALS, FakeHost(BrokerError("X", Action.STOP, "never")), tmp_path / "cache", free, Clock()).token() == "token-one"


def test_another_host_or_key_has_its_own_cache(tmp_path: Path) -> None:
    Keyring(CREDENTIALS, FakeHost(token("token-one")), tmp_path, free, Clock()).token()
    other = FakeHost(token("token-two"))
    other.base_url = "https://paper.invalid:29443"
    assert Keyring(CREDENTIALS, other, tmp_path, free, Clock()).token() == "token-two"
    assert Keyring(Credentials("other-key", "x" * 180), FakeHost(token("token-three")), tmp_path, free, Clock()).token() == "token-three"


def test_a_token_is_renewed_when_less_than_an_hour_is_left(tmp_path: Path) -> None:
    clock = Clock()
    host = FakeHost(token("token-one"), token("token-two", now=NOW + 86400))
    keyring = Keyring(CREDENTIALS, host, tmp_path, free, clock)
    keyring.token()
    clock.now = NOW + 86400 - 3601
    assert keyring.token() == "token-one"
    clock.now = NOW + 86400 - 3599
    assert keyring.token() == "token-two"


def test_a_token_that_cannot_be_renewed_is_used_as_long_as_it_is_good(tmp_path: Path) -> None:
    clock = Clock()
    host = FakeHost(token("token-one"), BrokerError("EGW00001", Action.RETRY, "temporary"))
    keyring = Keyring(CREDENTIALS, host, tmp_path, free, clock)
    keyring.token()
    clock.now = NOW + 86400 - 1800
    assert keyring.token() == keyring.token() == "token-one"
    assert len(host.posts) == 2, "and the renewal is not tried at every call"
    clock.now = NOW + 86400 + 1
    with pytest.raises(BrokerError):
        keyring.token()


@pytest.mark.parametrize(
    ("body", "life_s"),
    [
        ({"access_token_token_expired": "no date", "expires_in": 7200}, 7200),
        ({"expires_in": "7200"}, 7200),
        ({"access_token_token_expired": kst(NOW - 5), "expires_in": 7200}, 7200),
        ({"expires_in": "nonsense"}, 6 * 3600),
        ({}, 6 * 3600),
    ],
)
def test_a_token_ends_by_its_date_else_by_its_length(tmp_path: Path, body: dict[str, object], life_s: float) -> None:
    clock = Clock()
    host = FakeHost(Answer(200, {"access_token": "token-one", **body}, ""), token("token-two", now=NOW + life_s))
    keyring = Keyring(CREDENTIALS, host, tmp_path, free, clock)
    keyring.token()
    clock.now = NOW + life_s - 3601
    assert keyring.token() == "token-one"
    clock.now = NOW + life_s - 3599
    assert keyring.token() == "token-two"


def test_a_token_that_died_early_is_issued_anew_and_only_that_one(tmp_path: Path) -> None:
    host = FakeHost(token("token-one"), token("token-two"))
    keyring = Keyring(CREDENTIALS, host, tmp_path, free, Clock())
    keyring.token()
    keyring.token_died("token-one")
    assert keyring.token() == "token-two"
    keyring.token_died("token-one")
    assert keyring.token() == "token-two", "a late refusal of the old token does not cost the new one"
    assert len(host.posts) == 2


def test_a_token_that_another_process_already_replaced_is_taken_from_the_cache(tmp_path: Path) -> None:
    ours = Keyring(CREDENTIALS, FakeHost(token("token-one")), tmp_path, free, Clock())
    ours.token()
    theirs = Keyring(CREDENTIALS, FakeHost(token("token-two")), tmp_path, free, Clock())
    theirs.token_died(theirs.token())
    theirs.token()
    ours.token_died("token-one")
    assert ours.token() == "token-two"


def test_after_too_many_issues_nobody_asks_for_a_minute_not_even_the_next_process(tmp_path: Path) -> None:
    clock = Clock()
    host = FakeHost(TOO_OFTEN, token("token-one"))
    with pytest.raises(BrokerError) as caught:
        Keyring(CREDENTIALS, host, tmp_path, free, clock).token()
    assert (caught.value.code, caught.value.action, caught.value.wait_s) == ("EGW00133", Action.WAIT, 60.0)
    clock.now += 20
    keyring = Keyring(CREDENTIALS, host, tmp_path, free, clock)
    with pytest.raises(BrokerError) as caught:
        keyring.token()
    assert caught.value.wait_s == pytest.approx(40, abs=0.01)
    assert len(host.posts) == 1
    clock.now += 41
    assert keyring.token() == "token-one"


def test_a_clock_that_stepped_back_does_not_hold_us_for_more_than_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    keyring = Keyring(CREDENTIALS, FakeHost(TOO_OFTEN), tmp_path, free, clock)
    with pytest.raises(BrokerError):
        keyring.token()
    clock.now -= 86400
    with pytest.raises(BrokerError) as caught:
        keyring.token()
    assert caught.value.wait_s <= 60


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"secret":3}', b'{"secret":"x"}', b'{"secret":"x","expires":"y"}', b"\xff"])
def test_a_corrupt_cache_counts_as_none(tmp_path: Path, content: bytes) -> None:
    host = FakeHost(token("token-one"), token("token-two"))
    Keyring(CREDENTIALS, host, tmp_path, free, Clock()).token()
    cache_file(tmp_path).write_bytes(content)
    assert Keyring(CREDENTIALS, host, tmp_path, free, Clock()).token() == "token-two"


def test_a_cache_that_others_could_read_is_closed(tmp_path: Path) -> None:
    host = FakeHost(token("token-one"))
    Keyring(CREDENTIALS, host, tmp_path, free, Clock()).token()
    cache_file(tmp_path).chmod(0o644)
    Keyring(CREDENTIALS, host, tmp_path, free, Clock()).token()
    assert cache_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_cache_that_cannot_be_written_costs_no_token(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    assert Keyring(CREDENTIALS, FakeHost(token("token-one")), blocked / "cache", free, Clock()).token() == "token-one"


def test_the_approval_key_is_used_for_23_hours_or_until_it_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    host = FakeHost(approval("approval-one"), approval("approval-two"), approval("approval-three"))
    keyring = Keyring(CREDENTIALS, host, tmp_path, free, clock)
    keyring.approval_key()
    clock.now += 23 * 3600 - 1
    assert Keyring(CREDENTIALS, host, tmp_path, free, clock).approval_key() == "approval-one"
    clock.now += 2
    assert keyring.approval_key() == "approval-two"
    keyring.approval_died("approval-two")
    assert keyring.approval_key() == "approval-three"


def test_many_threads_make_one_issue(tmp_path: Path) -> None:
    host = FakeHost(token("token-one"), token("token-two"))
    host.gate.clear()
    keyring, got = Keyring(CREDENTIALS, host, tmp_path, free, Clock()), []
    threads = [threading.Thread(target=lambda: got.append(keyring.token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    host.gate.set()
    for thread in threads:
        thread.join(10)
    assert got == ["token-one"] * 8
    assert len(host.posts) == 1


def _issue_in_process(directory: str, counter: str, barrier: object) -> None:
    class Counting(FakeHost):
        def post(self, path: str, body: dict[str, str]) -> Answer:
            with Path(counter).open("a") as file:
                file.write("x")
            return super().post(path, body)

    barrier.wait(10)  # type: ignore[attr-defined]
    Keyring(CREDENTIALS, Counting(token("token-one")), Path(directory), free, Clock()).token()


def test_many_processes_make_one_issue(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("spawn")
    barrier = fork.Barrier(3)
    arguments = (str(tmp_path / "cache"), str(tmp_path / "count"), barrier)
    processes = [fork.Process(target=_issue_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "x"


def test_every_issue_takes_a_place_in_the_keys_pace_and_none_is_asked_for_without_one(tmp_path: Path) -> None:
    places = [True, True, False]
    host = FakeHost(token("token-one"), approval("approval-one"))
    keyring = Keyring(CREDENTIALS, host, tmp_path, lambda: nullcontext(places.pop(0)), Clock())
    assert (keyring.token(), keyring.approval_key()) == ("token-one", "approval-one")
    keyring.token_died("token-one")
    with pytest.raises(BrokerError, match="not asked, as the collector stops"):
        keyring.token()
    assert (places, len(host.posts)) == ([], 2)


def test_a_wrong_key_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    host = FakeHost(Answer(403, {"error_code": "EGW00103", "error_description": f"유효하지 않은 AppKey {CREDENTIALS.app_key}"}, ""))
    with pytest.raises(BrokerError) as caught:
        Keyring(CREDENTIALS, host, tmp_path, free, Clock()).token()
    assert caught.value.action is Action.STOP
    assert "kis_app_key" in caught.value.hint
    assert not list(tmp_path.glob("kis-token-*.json"))


def test_nothing_that_holds_a_secret_shows_it(tmp_path: Path) -> None:
    keyring = Keyring(CREDENTIALS, FakeHost(token("token-one")), tmp_path, free, Clock())
    keyring.token()
    shown = repr(keyring) + repr(Grant("token-one")) + repr(CREDENTIALS)
    assert "token-one" not in shown
    assert CREDENTIALS.app_secret not in shown
