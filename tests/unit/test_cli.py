"""The command line: verbs, help, and how each kind of end looks and counts."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from observer import __version__, cli, logs
from observer.errors import EXIT_BUG, EXIT_CONFIG, EXIT_FOUND, EXIT_HELD, EXIT_OK, EXIT_USAGE, ConfigError, HeldError, ObserverError
from observer.kis.cache import write_private

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `main` changes for the whole process."""
    root, observer = logging.getLogger(), logging.getLogger("observer")
    before = root.handlers[:], root.level, observer.level
    monkeypatch.setattr(logs, "_secrets", set())
    monkeypatch.setattr(logs, "_pattern", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    observer.setLevel(before[2])


Body = Callable[[argparse.Namespace], int]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Body], None]:
    """Make `observer fake` do as told."""

    def install(body: Body) -> None:
        module = types.ModuleType("observer_fake_verb")
        vars(module)["run"] = body
        vars(module)["add_arguments"] = lambda parser: parser.add_argument("--count", type=int, default=0)
        monkeypatch.setitem(sys.modules, "observer_fake_verb", module)
        monkeypatch.setitem(cli.VERBS, "fake", cli.Verb("observer_fake_verb", "a fake", "About the fake.", ("observer fake --count 3",)))

    return install


def raising(error: BaseException) -> Body:
    def run(_args: argparse.Namespace) -> int:
        raise error

    return run


def test_a_verb_gets_its_arguments_and_its_exit_code_is_the_commands(verb: Callable[[Body], None]) -> None:
    seen: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return int(args.count)

    verb(run)
    assert cli.main(["fake", "--count", "3"]) == 3
    assert cli.main(["fake"]) == EXIT_OK
    assert seen[1].config is None


@pytest.mark.parametrize(
    ("argv", "config"),
    [
        (["--config", "a.toml", "fake"], "a.toml"),
        (["--config=a.toml", "fake"], "a.toml"),
        (["fake", "--config", "a.toml"], "a.toml"),
        (["--config", "b.toml", "fake", "--config", "a.toml"], "a.toml"),
    ],
)
def test_the_configuration_may_be_named_before_or_behind_the_verb(verb: Callable[[Body], None], argv: list[str], config: str) -> None:
    seen: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    verb(run)
    cli.main(argv)
    assert [args.config for args in seen] == [config]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required: VERB"),
        (["stauts"], "did you mean `observer status`?"),
        (["xyzzy"], "there are run, demo, simulate, status"),
        (["--bla", "check"], "unrecognized arguments: --bla"),
        (["check", "--bla"], "see `observer check --help`"),
        (["fake", "--count", "x"], "argument --count: invalid int value"),
        (["--config"], "expected one argument"),
    ],
)
def test_wrong_usage_ends_with_64_and_one_clear_message(
    verb: Callable[[Body], None], capfd: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    verb(lambda _: 0)
    assert cli.main(argv) == EXIT_USAGE
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("observer: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("a.toml: wrong", "correct it"), EXIT_CONFIG, "observer: a.toml: wrong\n  correct it\n"),
        (HeldError("held by pid 7"), EXIT_HELD, "observer: held by pid 7\n"),
        (ObserverError("x", "y"), EXIT_BUG, "observer: x\n  y\n"),
    ],
)
def test_an_error_a_person_can_act_on_is_said_with_its_hint_and_its_code(
    verb: Callable[[Body], None], capfd: pytest.CaptureFixture[str], error: ObserverError, code: int, text: str
) -> None:
    verb(raising(error))
    assert cli.main(["fake"]) == code
    assert capfd.readouterr().err == text


def test_an_unexpected_exception_is_a_bug_with_its_traceback_and_without_secrets(
    verb: Callable[[Body], None], capfd: pytest.CaptureFixture[str]
) -> None:
    logs.hide("very-secret-value")
    verb(raising(KeyError("very-secret-value")))
    assert cli.main(["fake"]) == EXIT_BUG
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "KeyError: '***'" in err
    assert "very-secret" not in err


def test_an_interrupt_is_quiet_unless_the_verb_deals_with_it(verb: Callable[[Body], None], capfd: pytest.CaptureFixture[str]) -> None:
    verb(raising(KeyboardInterrupt()))
    assert cli.main(["fake"]) == cli.EXIT_INTERRUPTED == 130
    assert capfd.readouterr().err == ""


def test_a_broken_pipe_that_is_not_our_output_is_a_bug(verb: Callable[[Body], None], capfd: pytest.CaptureFixture[str]) -> None:
    verb(raising(BrokenPipeError()))
    assert cli.main(["fake"]) == EXIT_BUG
    assert "BrokenPipeError" in capfd.readouterr().err


def test_help_names_every_verb_and_costs_no_import(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    out = capfd.readouterr().out
    for name, entry in cli.VERBS.items():
        assert f"  {name}" in out
        assert entry.summary in out
    script = (
        "import sys, observer.cli; sys.exit(any(name in sys.modules for name in ('requests', 'rich', 'websockets', 'observer.supervisor')))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0


@pytest.mark.parametrize("name", ["paths", "check", "fake"])
def test_each_verbs_help_explains_it_with_an_example(verb: Callable[[Body], None], capfd: pytest.CaptureFixture[str], name: str) -> None:
    verb(lambda _: 0)
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    out = " ".join(capfd.readouterr().out.split())
    assert cli.VERBS[name].about in out
    assert cli.VERBS[name].examples[0] in out
    assert "--config FILE" in out


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capfd.readouterr().out == f"observer {__version__}\n"


def test_a_missing_module_of_a_verb_is_told_apart_from_a_missing_library(
    verb: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    verb(lambda _: 0)
    monkeypatch.setitem(cli.VERBS, "fake", cli.Verb("observer.no_such_room", "", "", ()))
    assert cli.main(["fake"]) == EXIT_USAGE
    assert "not part of this installation" in capfd.readouterr().err
    (tmp_path / "needs_a_library.py").write_text("import no_such_library_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(cli.VERBS, "fake", cli.Verb("needs_a_library", "", "", ()))
    assert cli.main(["fake"]) == EXIT_BUG
    assert "no_such_library_anywhere" in capfd.readouterr().err


def observer(*argv: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real command with a clean environment."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(CHECKOUT), **environ}
    return subprocess.run(
        [sys.executable, "-m", "observer", *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_output_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "OBSERVER_ASSET_DIR": str(tmp_path / "a")}
    with os.fdopen(writer, "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "observer", "paths"],
            cwd=tmp_path,
            env=env,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (cli.EXIT_PIPE, "")


def test_a_wrong_configuration_ends_every_verb_with_78(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[archive]\ncommit_interval = '50'\n")
    for name in ("check", "paths"):
        done = observer("--config", "wrong.toml", name, cwd=tmp_path)
        assert done.returncode == EXIT_CONFIG
        assert done.stderr.startswith('observer: wrong.toml: [archive] commit_interval = "50": needs a duration')


class TestCheck:
    @pytest.fixture
    def free_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
            return port

    def write(self, cwd: Path, listen: str, more: str = "") -> None:
        (cwd / "config").mkdir()
        (cwd / "config" / "observer.toml").write_text(f'[http]\nlisten = "{listen}"\n{more}')

    def keys(self) -> dict[str, str]:
        return {"KIS_APP_KEY": "the-app-key", "KIS_APP_SECRET": "the-secret"}

    def test_a_good_configuration_is_shown_with_what_differs(self, tmp_path: Path, free_port: int) -> None:
        self.write(tmp_path, f"127.0.0.1:{free_port}", "[archive]\nwindow = '8MiB'\n")
        done = observer("check", cwd=tmp_path, **self.keys())
        assert done.returncode == EXIT_OK, done.stdout + done.stderr
        assert "nothing is wrong" in done.stdout
        assert '[archive] window = "8MiB"   (default "64MiB")' in done.stdout
        assert f"{tmp_path / 'config' / 'observer'}   chosen by checkout" in done.stdout
        assert "the-secret" not in done.stdout + done.stderr

    def test_missing_credentials_and_a_busy_port_are_found(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            self.write(tmp_path, f"127.0.0.1:{busy.getsockname()[1]}")
            done = observer("check", "--json", cwd=tmp_path)
        report = json.loads(done.stdout)
        assert done.returncode == EXIT_FOUND
        assert [item["place"] for item in report["findings"]] == ["credentials", "http"]
        assert "is in use" in report["findings"][1]["what"]
        assert all(item["hint"] for item in report["findings"])

    def test_with_master_files_it_says_how_many_symbols_are_known_and_of_when(self, tmp_path: Path, free_port: int) -> None:
        self.write(tmp_path, f"127.0.0.1:{free_port}", "[swing]\nuniverse = 'master'\nmin_close = 5000\n")
        keys = {**self.keys(), "CACHE_DIRECTORY": str(tmp_path / "cache")}
        done = observer("check", cwd=tmp_path, **keys)
        assert "no shares are known yet: the service fetches the master files from https://new.real.download.dws.co.kr" in done.stdout
        market = {f"{number:06d}": 1000 + 10 * number for number in range(500)}
        content = {"fetched": "2026-11-23T06:00:02+09:00", "shares": {"kospi": market, "kosdaq": {**market, "900000": 9000}}}
        write_private(tmp_path / "cache" / "kis-universe-20261123.json", content)
        done = observer("check", cwd=tmp_path, **keys)
        assert "201 shares from 5,000 KRW on, by the master files of 2026-11-23 (fetched 2026-11-23T06:00:02+09:00" in done.stdout
        found = json.loads(observer("check", "--json", cwd=tmp_path, **keys).stdout)["universe"]
        assert (found["date"], found["symbols"]) == ("2026-11-23", 103), "and the two of the list"

    def test_an_address_that_is_not_ours_is_found(self, tmp_path: Path) -> None:
        self.write(tmp_path, "192.0.2.1:8000")
        done = observer("check", cwd=tmp_path, **self.keys())
        assert done.returncode == EXIT_FOUND
        assert 'listen = "192.0.2.1:8000" cannot be used' in done.stdout

    def test_unencrypted_credentials_and_an_open_market_on_the_real_host_are_found(self, tmp_path: Path, free_port: int) -> None:
        more = "[kis]\nrest_url = 'http://192.0.2.1:9'\n[market]\ncalendar = 'always'\n"
        self.write(tmp_path, f"127.0.0.1:{free_port}", more)
        done = observer("check", cwd=tmp_path, **self.keys())
        assert done.returncode == EXIT_FOUND
        assert "unencrypted" in done.stdout
        assert 'calendar = "always" on the real host' in done.stdout

    def test_the_file_alone_is_judged_without_keys_port_or_a_place_for_the_archive(self, tmp_path: Path) -> None:
        (tmp_path / "new.toml").write_text('[http]\nlisten = "192.0.2.1:8000"\n')
        done = observer("check", "--file-only", "--config", "new.toml", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, f"{tmp_path}/new.toml can be taken\n", "")

    def test_a_file_that_the_service_cannot_take_is_refused_alone_too(self, tmp_path: Path) -> None:
        (tmp_path / "new.toml").write_text("[archive]\nwindow = 7\n")
        done = observer("check", "--file-only", "--config", "new.toml", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (EXIT_CONFIG, "")
        assert "window" in done.stderr
        assert observer("check", "--file-only", "--config", "none.toml", cwd=tmp_path).returncode == EXIT_CONFIG
        assert observer("check", "--file-only", "--json", cwd=tmp_path).returncode == EXIT_USAGE
