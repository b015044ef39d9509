"""Several app keys: who has which symbol, whose secrets are whose, and what a configuration with them may say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import cli, logs
from observer.collectors import MAX_KEYS, collectors, is_collector, largest_share, number_of, share
from observer.config import Config, Credentials, KisConfig, ScalpConfig, SwingConfig, load_credentials, pair_names
from observer.config_file import parse_config
from observer.delivery.batch import incarnation_of, session_letter, session_name
from observer.errors import EXIT_CONFIG, EXIT_FOUND, ConfigError
from observer.roles.portion import Portion
from observer.supervisor.reload import changed_roles
from observer.supervisor.verb_run import mains
from tests.board_scene import settings_in

UNIT = Path(__file__).parents[2] / "systemd" / "observer.service"
SYMBOLS = [f"{number:06d}" for number in range(200)]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "observer.toml")
    return caught.value.what


@given(st.lists(st.sampled_from(SYMBOLS), unique=True), st.integers(1, MAX_KEYS))
def test_every_symbol_is_one_collectors_and_no_share_is_larger_than_the_first(symbols: list[str], keys: int) -> None:
    parts = [share(symbols, name, keys) for name in collectors(keys)]
    assert sorted(symbol for part in parts for symbol in part) == sorted(symbols)
    assert max(map(len, parts)) == len(parts[0]) == largest_share(len(symbols), keys)
    assert len(parts[0]) - len(parts[-1]) <= 1


def test_the_first_collector_keeps_the_name_it_had_alone() -> None:
    assert collectors(1) == ("collector",)
    assert collectors(3) == ("collector", "collector-2", "collector-3")
    assert [number_of(name) for name in collectors(3)] == [1, 2, 3]
    assert [is_collector(name) for name in (*collectors(2), "writer", "supervisor")] == [True, True, False, False]
    assert list(mains(Config(kis=KisConfig(keys=2)))) == ["writer", "janitor", "collector", "collector-2"]


def test_sessions_of_different_roles_begin_with_different_letters_and_none_with_that_of_a_hole() -> None:
    letters = [session_letter(name) for name in (*collectors(MAX_KEYS), "writer", "janitor")]
    assert letters == ["c", "d", "e", "f", "w", "j"], "g is a hole's"
    session = session_name("collector-3", "20261123T085900", 0x7F3A, 12)
    assert session == "e20261123T085900-7f3a000c" and incarnation_of(session, 0x7F3A) == 12


class TestConfiguration:
    def test_the_bound_of_registrations_is_of_each_key(self) -> None:
        def text(symbols: int, keys: int, trs: str = '["H0STCNT0"]') -> str:
            return f"[kis]\nkeys = {keys}\n[scalp]\nsymbols = {SYMBOLS[:symbols]}\ntrs = {trs}\n"

        assert "42 symbols x 1 trs = 42 registrations; the broker allows 41: name at most 41" in refusal(text(42, 1))
        assert len(parse_config(text(82, 2), "").scalp.symbols) == 82
        said = refusal(text(83, 2))
        assert "83 symbols x 1 trs = 42 registrations of one of 2 keys; the broker allows 41: name at most 82 symbols (or" in said
        assert "name at most 60 symbols" in refusal(text(61, 3, '["H0STCNT0", "H0STASP0"]'))
        assert refusal(text(165, 4)).endswith("name at most 164 symbols"), "there is no further key"
        assert len(parse_config(text(164, 4), "").scalp.symbols) == 164

    def test_each_key_has_its_own_pace(self) -> None:
        def text(keys: int) -> str:
            return f'[kis]\nkeys = {keys}\nrequests_per_second = 1\n[swing]\ninterval = "3s"\nsymbols = {SYMBOLS[:100]}\n'

        assert "100 symbols need 4 calls at 1 a second: at least 4s" in refusal(text(1))
        assert parse_config(text(2), "").swing.interval == 3.0
        paper = f'[kis]\nenvironment = "paper"\nkeys = 4\nrequests_per_second = 1\n[swing]\ninterval = "2s"\nsymbols = {SYMBOLS[:10]}\n'
        assert "3 symbols of one key need 3 calls at 1 a second: at least 3s" in refusal(paper)

    @pytest.mark.parametrize(("keys", "words"), [("0", "from 1 to 4"), ("5", "from 1 to 4"), ('"2"', "whole number"), ("3", "at most 2")])
    def test_a_number_of_keys_that_cannot_be_is_refused(self, keys: str, words: str) -> None:
        assert words in refusal(f"[kis]\nkeys = {keys}\n"), "the defaults have two symbols"

    def test_it_is_not_reloaded_and_whatever_concerns_a_collector_concerns_all(self, tmp_path: Path) -> None:
        old = settings_in(tmp_path, Config(kis=KisConfig(keys=3)))
        with pytest.raises(ConfigError, match=r"keys would change from 3 to 2") as caught:
            changed_roles(old, replace(old, config=Config(kis=KisConfig(keys=2))))
        assert "systemctl restart observer" in caught.value.hint
        fresh = replace(old, config=replace(old.config, scalp=ScalpConfig(symbols=("005930",))))
        assert changed_roles(old, fresh) == {"collector", "collector-2", "collector-3", "janitor"}
        assert changed_roles(old, replace(old, config=replace(old.config, disk=replace(old.config.disk, interval=9.0)))) == {
            "janitor",
            "writer",
        }

    def test_check_says_what_each_key_has(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "observer.toml"
        symbols = f"[swing]\nsymbols = {SYMBOLS[:7]}\n[scalp]\nsymbols = {SYMBOLS[:51]}\n"
        path.write_text(f'[archive]\nroot = "{tmp_path}/archive"\n[kis]\nkeys = 2\n{symbols}')
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        for _, variable in (*pair_names(1), *pair_names(2)):
            monkeypatch.setenv(variable, f"value-of-{variable}")
        monkeypatch.delenv("KIS_APP_SECRET_2")
        assert cli.main(["--config", str(path), "check"]) == EXIT_FOUND
        said = capsys.readouterr().out
        assert (
            "collector: 4 polled by name, 26 of 41 registrations" in said
            and "collector-2: 3 polled by name, 25 of 41 registrations" in said
        )
        assert "pair 2: environment (KIS_APP_KEY_2, KIS_APP_SECRET_2)" in said
        assert "! credentials: KIS_APP_SECRET_2: no KIS credential there" in said and "value-of" not in said


class TestCredentials:
    def files(self, directory: Path, *pairs: tuple[str, str]) -> dict[str, str]:
        for number, pair in enumerate(pairs, 1):
            for (name, _), value in zip(pair_names(number), pair, strict=True):
                (directory / name).write_text(value)
        return {"CREDENTIALS_DIRECTORY": str(directory)}

    def test_each_pair_comes_whole_from_one_place(self, tmp_path: Path) -> None:
        environ = self.files(tmp_path, ("first-key\n", "first-secret\n"), (" ", " "), ("third-key", "third-secret"))
        environ |= {"KIS_APP_KEY": "other", "KIS_APP_KEY_2": "second-key", "KIS_APP_SECRET_2": "second-secret"}
        assert load_credentials(environ, 3) == tuple(
            Credentials(f"{which}-key", f"{which}-secret") for which in ("first", "second", "third")
        )
        (tmp_path / "kis_app_secret_3").write_text(" ")
        with pytest.raises(ConfigError, match=r"kis_app_secret_3: no KIS credential there"):
            load_credentials(environ | {"KIS_APP_SECRET_3": "of another account"}, 3)

    def test_a_declared_pair_that_is_missing_is_named_with_its_file_and_ends_with_78(self, tmp_path: Path) -> None:
        environ = self.files(tmp_path, ("first-key", "first-secret"), (" ", " "))
        with pytest.raises(ConfigError, match=f"^{re.escape(str(tmp_path))}/kis_app_key_2: no KIS credential there") as caught:
            load_credentials(environ, 2)
        assert caught.value.exit_code == EXIT_CONFIG and "kis_app_secret_2" in caught.value.hint
        assert len(load_credentials(environ, 1)) == 1, "a pair that is not used need not be there"

    def test_the_same_key_twice_is_refused_without_being_shown(self, tmp_path: Path) -> None:
        environ = self.files(tmp_path, ("one-key", "one-secret"), ("two-key", "two-secret"), ("one-key", "three-secret"))
        with pytest.raises(ConfigError, match=r"kis_app_key_3: is the same key as .*kis_app_key ") as caught:
            load_credentials(environ, 3)
        assert "one-key" not in f"{caught.value.what} {caught.value.hint}"
        assert logs.redact("three-secret") == "***"

    def test_the_unit_gives_every_pair_and_a_blank_where_a_file_is_missing(self) -> None:
        text = UNIT.read_text()
        for name in (name for number in range(1, MAX_KEYS + 1) for name, _ in pair_names(number)):
            assert f"LoadCredential={name}:/etc/observer/credentials/{name}\n" in text
            assert f"SetCredential={name}:\\x20\n" in text


class TestPortion:
    CONFIG = Config(kis=KisConfig(keys=2), scalp=ScalpConfig(symbols=("A00001", "A00002", "A00003")), swing=SwingConfig(symbols=()))

    def test_holes_of_a_symbol_that_nobody_has_any_more_are_the_first_collectors(self) -> None:
        first, second = (Portion(self.CONFIG, name) for name in collectors(2))
        assert [first.fills(symbol) for symbol in ("A00001", "A00002", "B00001")] == [True, False, True]
        assert [second.fills(symbol) for symbol in ("A00001", "A00002", "B00001")] == [False, True, False]
        assert (first.scalp, second.scalp, second.alone) == (("A00001", "A00003"), ("A00002",), ("A00002",))
        assert Portion(Config(), "collector").alone == (), "alone it has all"

    def test_the_shares_of_the_master_files_are_all_polled_by_the_first_and_the_list_with_them(self) -> None:
        swing = SwingConfig(symbols=("A00001", "A00002"))
        by_list, by_master = (replace(self.CONFIG, swing=replace(swing, universe=universe)) for universe in ("list", "master"))
        first, second = (Portion(by_list, name) for name in collectors(2))
        assert [(each.swing, each.master, each.polls) for each in (first, second)] == [
            (("A00001",), False, True),
            (("A00002",), False, True),
        ]
        first, second = (Portion(by_master, name) for name in collectors(2))
        assert [(each.swing, each.master, each.polls) for each in (first, second)] == [(swing.symbols, True, True), ((), False, False)]
        assert (first.scalp, second.scalp) == (("A00001", "A00003"), ("A00002",))
