"""Configuration: the shipped file is the defaults, and what cannot be right is refused with what would be."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import logs
from observer.config import Config, Credentials, HttpConfig, KisConfig, credentials_source, load_credentials
from observer.config_file import combinations, config_value, differences, parse_config, read_config
from observer.config_keys import SECTIONS, TRS, toml_text
from observer.errors import EXIT_CONFIG, ConfigError

SHIPPED = Path(__file__).parents[2] / "config" / "observer.toml"
NAME = "config/observer.toml"


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, NAME)
    assert caught.value.exit_code == EXIT_CONFIG
    assert caught.value.hint
    return caught.value.what


def test_the_shipped_file_says_the_defaults() -> None:
    assert read_config(SHIPPED, NAME) == Config()


def test_an_empty_file_means_the_defaults() -> None:
    assert parse_config("", NAME) == Config()


def test_the_defaults_are_within_their_own_bounds_and_go_together() -> None:
    for section, keys in SECTIONS.items():
        for key in keys:
            text = config_value(Config(), section, key)
            assert keys[key].read(tomllib.loads(f"x = {text}")["x"]) is not None
    assert list(combinations(Config())) == []


def test_the_shipped_file_has_every_key_uncommented_and_every_key_is_a_field() -> None:
    tables = tomllib.loads(SHIPPED.read_text("utf-8"))
    for section, keys in SECTIONS.items():
        table: Any = tables
        part: Any = Config()
        for name in section.split("."):
            table, part = table[name], getattr(part, name)
        nested = {name.partition(".")[2] for name in SECTIONS if name.startswith(section + ".")}
        assert set(table) == set(keys) | nested
        assert {field.name for field in dataclasses.fields(part)} == set(keys) | nested
    assert list(tables) == [section for section in SECTIONS if "." not in section]
    assert {field.name for field in dataclasses.fields(Config)} == set(tables)


def test_the_shipped_file_names_each_keys_default_in_its_comment() -> None:
    lines = SHIPPED.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if match := re.match(r"(\w+) = (.*)", line):
            comment: list[str] = []
            for above in reversed(lines[:number]):
                if not above.startswith("#"):
                    break
                comment.insert(0, above.lstrip("# "))
            assert f"Default {match[2]}." in " ".join(comment), line


CHANGES = [
    ("archive", "root", '"/srv/quotes"', "/srv/quotes"),
    ("archive", "commit_interval", '"5ms"', 0.005),
    ("archive", "window", '"8MiB"', 8 << 20),
    ("archive", "roll", '{ scalp = "5s" }', dataclasses.replace(Config().archive.roll, scalp=5)),
    ("retention", "days", "5", 5),
    ("retention", "compress", "true", True),
    ("disk", "warn", '"70%"', 0.7),
    ("kis", "requests_per_second", "0.5", 0.5),
    ("kis", "rest_url", '"http://127.0.0.1:9"', "http://127.0.0.1:9"),
    ("swing", "symbols", '["Q530031", "0074K0"]', ("Q530031", "0074K0")),
    ("scalp", "trs", '["H0UNASP0"]', ("H0UNASP0",)),
    ("market", "calendar", '"always"', "always"),
    ("supervisor", "restart_backoff", '["0s", "100ms"]', (0.0, 0.1)),
    ("http", "listen", '"[::1]:0"', "[::1]:0"),
]


@pytest.mark.parametrize(("section", "key", "text", "value"), CHANGES)
def test_a_key_reaches_its_field_with_its_type(section: str, key: str, text: str, value: object) -> None:
    config = parse_config(f"[{section}]\n{key} = {text}\n", NAME)
    found = getattr(getattr(config, section), key)
    assert (found, type(found)) == (value, type(value))


BAD = [
    ("archive", "commit_interval", '"50"', 'needs a duration with a unit (ms, s, m, h, d) such as "50ms"'),
    ("archive", "commit_interval", "50", "needs a duration with a unit"),
    ("archive", "commit_interval", "true", "needs a duration with a unit"),
    ("archive", "commit_interval", '"50MiB"', "needs a duration with a unit"),
    ("archive", "commit_interval", '"4ms"', 'must lie between "5ms" and "5s"'),
    ("archive", "commit_interval", '"6s"', 'must lie between "5ms" and "5s"'),
    ("archive", "window", '"7MiB"', 'must lie between "8MiB" and "4GiB"'),
    ("archive", "window", '"64MB"', "needs a size with a unit"),
    ("archive", "window", "67108864", "needs a size with a unit"),
    ("archive", "root", '"archive"', "needs an absolute path"),
    ("archive", "root", '"~/archive"', "needs an absolute path"),
    ("archive", "root", '"/srv/../etc"', "needs an absolute path"),
    ("archive", "root", "1", "needs a text in quotes"),
    ("archive", "expect_mount", '"mnt"', "needs an absolute path"),
    ("archive", "fallback", '"./x"', "needs an absolute path"),
    ("archive", "fallback_limit", '"1KiB"', "must lie between"),
    ("archive", "roll", '"1h"', 'needs a table such as { swing = "…", scalp = "…", system = "…" }'),
    ("retention", "days", "2", "needs a whole number from 3 to 10"),
    ("retention", "days", "11", "needs a whole number from 3 to 10"),
    ("retention", "days", '"3"', "needs a whole number from 3 to 10, without quotes"),
    ("retention", "days", "3.0", "needs a whole number"),
    ("retention", "days", "true", "needs a whole number"),
    ("retention", "max_days", "30", "needs a whole number from 3 to 10"),
    ("retention", "floor_days", "0", "needs a whole number from 1 to 10"),
    ("retention", "per_run", "0", "needs a whole number from 1 to 10"),
    ("retention", "compress", '"true"', "needs true or false, without quotes"),
    ("retention", "compress", "1", "needs true or false"),
    ("disk", "warn", '"80"', 'needs a percentage such as "80%"'),
    ("disk", "warn", "0.8", 'needs a percentage such as "80%"'),
    ("disk", "stop", '"100%"', 'must lie between "1%" and "99%"'),
    ("disk", "interval", '"0s"', "must lie between"),
    ("disk", "ballast", '"1TiB"', "must lie between"),
    ("kis", "environment", '"prod"', 'needs "real" or "paper"'),
    ("kis", "environment", "1", 'needs "real" or "paper"'),
    ("kis", "rest_url", '"ftp://host"', "needs an address such as"),
    ("kis", "rest_url", '"openapi.koreainvestment.com:9443"', "needs an address such as"),
    ("kis", "rest_url", '"https://host:99999"', "needs an address such as"),
    ("kis", "rest_url", '"https://host/?a=b"', "needs an address such as"),
    ("kis", "ws_url", '"https://host"', "needs an address such as"),
    ("kis", "requests_per_second", "19", "needs a number from 0.1 to 18"),
    ("kis", "requests_per_second", "0", "needs a number from 0.1 to 18"),
    ("kis", "requests_per_second", "nan", "needs a number from 0.1 to 18"),
    ("kis", "requests_per_second", "inf", "needs a number from 0.1 to 18"),
    ("kis", "requests_per_second", '"15"', "needs a number from 0.1 to 18, without quotes"),
    ("swing", "interval", '"500ms"', "must lie between"),
    ("swing", "symbols", '"005930"', "needs a list of texts in quotes"),
    ("swing", "symbols", "[5930]", "needs a list of texts in quotes"),
    ("swing", "symbols", '["5930"]', '"5930" is no symbol'),
    ("swing", "symbols", '["00593k"]', '"00593k" is no symbol'),
    ("scalp", "symbols", '["Q0059300"]', "is no symbol"),
    ("scalp", "symbols", '["005930\\n"]', "is no symbol"),
    ("scalp", "symbols", '["005930", "005930"]', '"005930" stands there twice'),
    ("scalp", "trs", '["H0STCNT1"]', '"H0STCNT1" is no known TR'),
    ("scalp", "trs", '["H0STCNT0", "H0STCNT0"]', "stands there twice"),
    ("market", "calendar", '"nyse"', 'needs "krx" or "always"'),
    ("market", "no_snapshots_after", '"1s"', "must lie between"),
    ("supervisor", "heartbeat_timeout", '"61s"', 'must lie between "1s" and "1m"'),
    ("supervisor", "heartbeat_timeout", '"500ms"', "must lie between"),
    ("supervisor", "stop_timeout", '"0s"', "must lie between"),
    ("supervisor", "restart_backoff", "[]", "needs a list of 1 to 20 durations"),
    ("supervisor", "restart_backoff", '["5s", "1s"]', "none shorter than the one before"),
    ("supervisor", "restart_backoff", '["1h"]', 'none over "5m"'),
    ("supervisor", "restart_backoff", '["-1s"]', "needs a duration with a unit"),
    ("supervisor", "restart_backoff", "[1, 2]", "needs a list of 1 to 20 durations"),
    ("http", "listen", '"8000"', "needs host:port"),
    ("http", "listen", '"127.0.0.1"', "needs host:port"),
    ("http", "listen", '"127.0.0.1:65536"', "needs host:port"),
    ("http", "listen", '"::1:80"', "needs host:port"),
    ("http", "listen", "8000", "needs a text in quotes"),
]


@pytest.mark.parametrize(("section", "key", "value", "right"), BAD)
def test_a_wrong_value_is_refused_with_file_key_value_and_what_would_be_right(section: str, key: str, value: str, right: str) -> None:
    what = refusal(f"[{section}]\n{key} = {value}\n")
    shown = toml_text(tomllib.loads(f"x = {value}")["x"])
    assert what.startswith(f"{NAME}: [{section}] {key} = {shown}: ")
    assert right in what


@pytest.mark.parametrize(
    ("track", "value"),
    [
        ("swing", "30m"),
        ("swing", "5h"),
        ("swing", "2d"),
        ("scalp", "7s"),
        ("scalp", "2h"),
        ("scalp", "500ms"),
        ("scalp", "0s"),
        ("system", "1h"),
    ],
)
def test_a_roll_interval_that_does_not_divide_the_day_as_it_should_is_refused(track: str, value: str) -> None:
    what = refusal(f'[archive]\nroll = {{ {track} = "{value}" }}\n')
    assert what.startswith(f'{NAME}: [archive] roll.{track} = "{value}": needs ')


@pytest.mark.parametrize(
    ("text", "named", "right"),
    [
        ("[archiv]\n", "[archiv]", "did you mean [archive]?"),
        ("[xyz]\n", "[xyz]", "there are [archive], [retention]"),
        ("[retention]\nday = 3\n", "[retention] day = 3", "did you mean days?"),
        ("[disk]\nwindow = '8MiB'\n", '[disk] window = "8MiB"', "window belongs under [archive]"),
        ("[disk]\nxyz = 1\n", "[disk] xyz = 1", "there are interval, warn, clean, stop, ballast"),
        ("[archive]\nrol = 1\n", "[archive] rol = 1", "did you mean roll?"),
        ("[archive]\nroll = { skalp = '60s' }\n", '[archive] roll.skalp = "60s"', "did you mean scalp?"),
        ("commit_interval = '50ms'\n", 'commit_interval = "50ms"', "stands in no section; commit_interval belongs under [archive]"),
        ("archive = 3\n", "archive = 3", "is a section; write [archive]"),
        ("[alerts]\nurls = []\n", "[alerts]", "no such section"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_closest_right_name(text: str, named: str, right: str) -> None:
    what = refusal(text)
    assert what.startswith(f"{NAME}: {named}")
    assert right in what


COMBINATIONS = [
    ("[retention]\ndays = 8\n", "[retention] anomaly_days = 7: must lie between days (8) and max_days (10)"),
    ("[retention]\nmax_days = 5\n", "[retention] anomaly_days = 7: must lie between days (3) and max_days (5)"),
    ("[retention]\nfloor_days = 4\n", "[retention] floor_days = 4: must be at most days (3)"),
    ("[disk]\nwarn = '85%'\n", '[disk] clean = "85%": must lie above warn (85%) and below stop (97%)'),
    ("[disk]\nclean = '98%'\n", '[disk] clean = "98%": must lie above warn (80%) and below stop (97%)'),
    ("[kis]\nenvironment = 'paper'\n", '[kis] requests_per_second = 15: must be at most 1 with environment = "paper"'),
    (
        "[kis]\nenvironment = 'paper'\nrequests_per_second = 1\n[scalp]\ntrs = ['H0NXCNT0']\n",
        '[scalp] trs = ["H0NXCNT0"]: H0NXCNT0 not offered with environment = "paper"; it has H0STCNT0, H0STASP0',
    ),
    ("[scalp]\nsymbols = []\n[swing]\nsymbols = []\n", "[scalp] symbols = []: nothing would be recorded"),
    ("[scalp]\ntrs = []\n", "[scalp] trs = []: needs at least one TR"),
    (
        "[swing]\ninterval = '1s'\nsymbols = [" + ",".join(f"'{n:06d}'" for n in range(31)) + "]\n[kis]\nrequests_per_second = 1\n",
        '[swing] interval = "1s": 31 symbols need 2 calls at 1 a second: at least 2s',
    ),
    (
        "[kis]\nenvironment = 'paper'\nrequests_per_second = 1\n[swing]\ninterval = '1s'\n",
        '[swing] interval = "1s": 2 symbols need 2 calls at 1 a second: at least 2s',
    ),
    (
        "[kis]\nenvironment = 'paper'\nrequests_per_second = 1\n[swing]\nuniverse = 'master'\n",
        '[swing] universe = "master": must be "list" with environment = "paper": that allows 1 call a second',
    ),
    (
        "[swing]\nuniverse = 'master'\ninterval = '6s'\n",
        '[swing] interval = "6s": about 3,002 symbols need 101 calls at 15 a second: at least 7s',
    ),
    ("[archive]\nroot = '/srv/a'\nfallback = '/srv/a/b'\n", '[archive] fallback = "/srv/a/b": must lie outside root ("/srv/a")'),
    ("[archive]\nroot = '/srv/a/b'\nfallback = '/srv/a'\n", '[archive] fallback = "/srv/a": must lie outside root'),
]


@pytest.mark.parametrize(("text", "message"), COMBINATIONS)
def test_keys_that_exclude_each_other_are_refused(text: str, message: str) -> None:
    assert refusal(text).startswith(f"{NAME}: {message}")


def test_more_registrations_than_the_broker_allows_are_refused_and_41_are_not() -> None:
    symbols = [f"{number:06d}" for number in range(42)]
    both = '["H0STCNT0", "H0STASP0"]'
    assert "42 symbols x 1 trs = 42 registrations; the broker allows 41: name at most 41" in refusal(f"[scalp]\nsymbols = {symbols}\n")
    assert "name at most 20 symbols" in refusal(f"[scalp]\nsymbols = {symbols[:21]}\ntrs = {both}\n")
    assert len(parse_config(f"[scalp]\nsymbols = {symbols[:41]}\n", NAME).scalp.symbols) == 41
    assert len(parse_config(f"[scalp]\nsymbols = {symbols[:20]}\ntrs = {both}\n", NAME).scalp.symbols) == 20


def test_the_master_files_are_something_to_record_also_without_a_list() -> None:
    config = parse_config("[scalp]\nsymbols = []\n[swing]\nsymbols = []\nuniverse = 'master'\ninterval = '7s'\n", NAME)
    assert config.swing.polls and config.swing.from_master
    assert config.kis.effective_master_url == "https://new.real.download.dws.co.kr"
    assert parse_config("[kis]\nmaster_url = 'http://127.0.0.1:8/'\n", NAME).kis.effective_master_url == "http://127.0.0.1:8"


def test_every_documented_tr_is_known() -> None:
    assert len(TRS) == 12
    for tr in TRS:
        assert parse_config(f'[scalp]\ntrs = ["{tr}"]\n', NAME).scalp.trs == (tr,)


def test_all_problems_are_told_together() -> None:
    what = refusal("[archive]\nwindow = '1MiB'\ncommit_interval = '50'\n[retention]\nfloor_days = 9\n[disc]\n")
    lines = what.splitlines()
    assert lines[0] == f"{NAME}: 4 things are wrong:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        '[archive] window = "1MiB"',
        '[archive] commit_interval = "50"',
        "[disc]",
        "[retention] floor_days = 9",
    ]


def test_a_combination_is_not_judged_by_a_value_that_was_refused() -> None:
    assert "things are wrong" not in refusal("[disk]\nwarn = '85%'\nclean = 3\n")


@pytest.mark.parametrize("text", ["[archive", "root = ", "x = 1\nx = 2\n", "\0"])
def test_what_is_no_toml_is_refused_with_its_line(text: str) -> None:
    assert re.search(r"no TOML: .*at (line \d+|end of document)", refusal(text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "none.toml", "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_config(tmp_path, "here")
    (tmp_path / "latin").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="byte 2 is no UTF-8"):
        read_config(tmp_path / "latin", "latin")


def test_a_credential_in_the_file_is_refused_without_being_shown() -> None:
    for text in ('[kis]\napp_secret = "abcdefgh"\n', 'KIS_APP_KEY = "abcdefgh"\n', '[kis]\nrest_url = "https://u:abcdefgh@host"\n'):
        what = refusal(text)
        assert "abcdefgh" not in what
        assert "***" in what


def test_a_very_long_value_is_shown_in_part() -> None:
    assert len(refusal(f'[kis]\nenvironment = "{"x" * 10_000}"\n')) < 400


@given(
    st.dictionaries(
        st.sampled_from([*SECTIONS, "x"]),
        st.dictionaries(st.sampled_from(["root", "days", "symbols", "y"]), st.integers() | st.text() | st.booleans() | st.lists(st.text())),
    )
)
def test_any_table_is_read_or_refused_by_a_config_error(tables: dict[str, dict[str, Any]]) -> None:
    text = "".join(
        f'["{name}"]\n' + "".join(f"{key} = {toml_text(value)}\n" for key, value in table.items()) for name, table in tables.items()
    )
    try:
        assert isinstance(parse_config(text, NAME), Config)
    except ConfigError as error:
        assert error.what.startswith(NAME)


def test_differences_are_the_keys_that_are_not_default() -> None:
    config = parse_config("[archive]\nwindow = '8MiB'\nroll = { scalp = '5s' }\n", NAME)
    assert list(differences(config)) == [
        ("archive", "window", '"8MiB"', '"64MiB"'),
        ("archive.roll", "scalp", '"5s"', '"1m"'),
    ]


def test_addresses_come_from_the_environment_unless_they_are_given() -> None:
    assert KisConfig().effective_rest_url == "https://openapi.koreainvestment.com:9443"
    assert KisConfig().effective_ws_url == "ws://ops.koreainvestment.com:21000/tryitout"
    assert KisConfig(environment="paper").effective_rest_url == "https://openapivts.koreainvestment.com:29443"
    assert KisConfig(environment="paper").effective_ws_url == "ws://ops.koreainvestment.com:31000/tryitout"
    given_urls = KisConfig(rest_url="http://127.0.0.1:1/", ws_url="ws://127.0.0.1:2")
    assert (given_urls.effective_rest_url, given_urls.effective_ws_url) == ("http://127.0.0.1:1", "ws://127.0.0.1:2")


@pytest.mark.parametrize(
    ("listen", "address"), [("127.0.0.1:8000", ("127.0.0.1", 8000)), ("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0))]
)
def test_the_listening_address_is_taken_apart(listen: str, address: tuple[str, int]) -> None:
    assert HttpConfig(listen=listen).address == address


@pytest.fixture
def no_hidden_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    monkeypatch.setattr(logs, "_pattern", None)


@pytest.mark.usefixtures("no_hidden_secrets")
class TestCredentials:
    def files(self, directory: Path, key: str | None, secret: str | None) -> dict[str, str]:
        for name, value in (("kis_app_key", key), ("kis_app_secret", secret)):
            if value is not None:
                (directory / name).write_text(value)
        return {"CREDENTIALS_DIRECTORY": str(directory)}

    def test_they_come_from_the_credentials_directory_without_the_newline(self, tmp_path: Path) -> None:
        found = load_credentials(self.files(tmp_path, "the-app-key\n", "the-secret\n") | {"KIS_APP_KEY": "other"}, 1)[0]
        assert (found.app_key, found.app_secret) == ("the-app-key", "the-secret")

    def test_they_come_from_the_environment_when_no_file_is_there(self, tmp_path: Path) -> None:
        environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "KIS_APP_KEY": "the-app-key", "KIS_APP_SECRET": "the-secret"}
        assert load_credentials(environ, 1) == (Credentials("the-app-key", "the-secret"),)

    @pytest.mark.parametrize("environ", [{}, {"KIS_APP_KEY": "the-app-key"}, {"KIS_APP_KEY": "the-app-key", "KIS_APP_SECRET": " \n"}])
    def test_a_missing_one_ends_with_78_and_a_hint(self, environ: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="no KIS credential") as caught:
            load_credentials(environ, 1)
        assert caught.value.exit_code == EXIT_CONFIG
        assert "KIS_APP_SECRET" in caught.value.hint
        assert "the-app-key" not in str(caught.value)

    def test_a_pair_is_never_mixed_from_two_sources(self, tmp_path: Path) -> None:
        environ = self.files(tmp_path, "the-app-key", None) | {"KIS_APP_SECRET": "the-secret", "KIS_APP_KEY": "other"}
        with pytest.raises(ConfigError, match="kis_app_secret"):
            load_credentials(environ, 1)

    @pytest.mark.parametrize("value", ["two words", "two\nlines", "schlüssel"])
    def test_a_value_with_foreign_signs_is_refused_without_being_shown(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigError, match="white space or signs") as caught:
            load_credentials(self.files(tmp_path, value, "the-secret"), 1)
        assert value not in str(caught.value)

    def test_an_unreadable_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "kis_app_key").mkdir()
        with pytest.raises(ConfigError, match="Is a directory"):
            load_credentials({"CREDENTIALS_DIRECTORY": str(tmp_path)}, 1)

    def test_they_show_in_no_repr_and_are_hidden_from_then_on(self) -> None:
        found = load_credentials({"KIS_APP_KEY": "the-app-key", "KIS_APP_SECRET": "the-secret"}, 1)
        assert "the-" not in f"{found!r} {found} {[found]}"
        assert logs.redact("a the-app-key b the-secret c") == "a *** b *** c"

    def test_their_source_is_named_and_not_shown(self, tmp_path: Path) -> None:
        assert credentials_source({}) == ""
        assert credentials_source({"KIS_APP_KEY": "the-app-key"}) == "environment (KIS_APP_KEY, KIS_APP_SECRET)"
        assert credentials_source(self.files(tmp_path, "the-app-key", None)) == f"files in {tmp_path}"
