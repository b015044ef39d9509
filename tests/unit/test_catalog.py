"""The journal's catalogs: every kind of entry is explained, in both languages, with fields that are there and commands that exist."""

from __future__ import annotations

import argparse
import ast
import errno
import functools
import importlib
import logging
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import threading
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from observer.archive.faults import ChangedError, HungError, Outage, fault_class
from observer.cli import VERBS
from observer.journal import KINDS, entry, fault_kind
from observer.roles.collector_note import STREAM_TROUBLE
from observer.roles.disk_watch import DiskWatch
from observer.roles.fault_entries import say_fault
from observer.roles.watches import FaultWatch
from tests.board_scene import settings_in

ROOT = Path(__file__).parents[2]
NAMES = ("observer.catalog", "observer.ko.catalog")
IDS = {message_id: kind for kind, message_id in KINDS.items()}
COLUMNS = 90
LINES = 14
# One call sends these three kinds, so every entry of one has more than the call shows.
ALWAYS_SENT = {"child_killed": {"OBSERVER_SIGNAL"}, "child_out_of_memory": {"OBSERVER_SIGNAL"}, "child_exited": {"OBSERVER_EXIT"}}
ENDS = tuple(ALWAYS_SENT)
NOT_ALWAYS_SENT = {"config_reloaded": {"OBSERVER_PATH"}}  # there may be no file of a configuration
BY_ITSELF = {"observer.catalog": "By itself:", "observer.ko.catalog": "자동 조치:"}
TO_DO = {"observer.catalog": "To do", "observer.ko.catalog": "조치 방법"}
UNLESS_OVER = {"observer.catalog": "To do, unless it is over", "observer.ko.catalog": "조치 방법 (종료되었으면 불필요)"}


class Page(NamedTuple):
    """One entry of a catalog."""

    header: dict[str, str]
    body: str

    @property
    def paragraphs(self) -> list[str]:
        return self.body.split("\n\n")

    @property
    def fields(self) -> set[str]:
        return set(re.findall(r"@([A-Z0-9_]+)@", self.header["Subject"] + "\n" + self.body))

    @property
    def commands(self) -> list[str]:
        """What stands alone on an indented line, without its comment."""
        lines = [line for line in self.body.splitlines() if line.startswith("    ")]
        return [re.split(r"\s+# ", line)[0].strip() for line in lines]

    @property
    def named(self) -> list[str]:
        """Commands, and what the text has in backquotes."""
        return self.commands + re.findall(r"`([^`]+)`", self.body)


def read(name: str) -> list[tuple[str, Page]]:
    """The entries of a catalog, as `journalctl --update-catalog` reads them."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "systemd" / name).read_text("utf-8"))
    pages = []
    for part in re.split(r"(?m)^-- ", text)[1:]:
        head, _, body = part.rstrip("\n").partition("\n\n")
        message_id, *fields = head.split("\n")
        pages.append((message_id, Page(dict(line.split(": ", 1) for line in fields), body)))
    return pages


PAGES = {name: {IDS.get(message_id, message_id): page for message_id, page in read(name)} for name in NAMES}
EVERY = [pytest.param(name, kind, id=f"{name}-{kind}") for name in NAMES for kind in KINDS]


def columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


# --- which kinds and fields the code sends ---


@functools.cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of the program's source, with its file."""
    files = sorted((ROOT / "observer").rglob("*.py"))
    files = [path for path in files if "simulator" not in path.parts]  # its faults are the broker's, played
    return [
        (path.relative_to(ROOT / "observer").as_posix(), node) for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]


def fault_call(name: str, node: ast.AST) -> ast.Call | None:
    """``node`` where it makes a fault from its kind and more."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "Fault":
            return node
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_fault" and name == "roles/disk_watch.py":
            return node
    return None


def fault_dict(node: ast.AST) -> dict[str, ast.expr]:
    """The keys of ``node`` where it is a fault as a note states it; else nothing."""
    if not isinstance(node, ast.Dict):
        return {}
    said = {str(key.value): value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)}
    return said if {"kind", "severity"} <= said.keys() else {}


def word(node: ast.AST | None) -> str:
    """The text that ``node`` is; empty where it is none."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def may_be_none(node: ast.AST) -> bool:
    """Whether ``node`` says itself that it may be None."""
    return any(isinstance(each, ast.Constant) and each.value is None for each in ast.walk(node))


def field(fact: str) -> str:
    """The field that `entry` makes of ``fact``."""
    (name,) = entry("shed", "x", **{fact: 1})["journal_entry"].keys() - entry("shed", "x")["journal_entry"].keys()
    return str(name)


def sent_directly() -> dict[str, set[str]]:
    """The kinds that are no faults, each with the fields that all of its entries have."""
    sent: dict[str, set[str]] = {}
    for name, node in nodes():
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "entry"):
            continue
        if name == "roles/fault_entries.py":
            continue  # the faults
        kind = word(node.args[0])
        fields = {field(fact.arg) for fact in node.keywords if fact.arg and not may_be_none(fact.value)}
        for each in [kind] if kind else ENDS:
            found = (fields | ALWAYS_SENT.get(each, set())) - NOT_ALWAYS_SENT.get(each, set())
            sent[each] = sent.get(each, found) & found
    return sent


def disk_threads_own() -> set[str]:
    """The kinds of the faults that the disk thread states when its work fails."""

    class Failing(DiskWatch):
        def _measure(self, now: float) -> None:
            raise OSError(errno.EIO, "x")

        def _keep_faults(self) -> None:
            raise OSError(errno.EIO, "x")

        def _retain(self, now: float) -> None:
            raise OSError(errno.EIO, "x")

    def never(event: str, data: dict[str, Any]) -> NoReturn:
        raise AssertionError(event)

    with tempfile.TemporaryDirectory() as place:
        watch = Failing(settings_in(Path(place)), never, threading.Event())
    watch.turn(1.0)
    return {fault["kind"] for fault in watch.faults}


def leanest_faults() -> list[dict[str, Any]]:
    """Every fault that the code can state, each with no more than it always says."""
    faults = [
        Outage(error, 0.0, 100.0).as_fault("x")
        for error in (
            *(OSError(number, "x") for number in {fault_class(each): each for each in (*errno.errorcode, 0)}.values()),
            HungError(None, "x", "x"),
            ChangedError(None, "x", "x"),
        )
    ]
    faults.append(Outage(OSError(None, "x"), 0.0, 100.0, kind="fallback").as_fault("x"))
    # `Placement` states the outage that a missing mount is under this kind.
    faults.append({**Outage(ChangedError(None, "x", "x"), 0.0, 100.0).as_fault("x"), "kind": "missing_mount"})
    short = {"class": "x", "severity": "warning", "what": "x", "since": 100.0}
    kinds: set[str] = set(STREAM_TROUBLE.values()) | disk_threads_own()
    for name, node in nodes():
        said = fault_dict(node)
        if kind := word(said.get("kind")):
            faults += [{**dict.fromkeys(said, "x"), **short, "kind": kind}] if kind != "archive" else []
        elif (call := fault_call(name, node)) and call.args:
            kinds |= {word(call.args[0])} - {""}
    return faults + [{**short, "kind": kind} for kind in sorted(kinds)]


FAULTS = leanest_faults()
FAULT_KINDS = {fault_kind(fault) for fault in FAULTS}


def test_the_faults_are_found() -> None:
    some = "archive fallback missing_mount disk faults_file disk_watch retention broker_held polling shed disk_hung"
    assert set(some.split()) <= {fault["kind"] for fault in FAULTS}


def test_only_known_places_state_a_fault_whose_kind_is_no_word_in_the_source() -> None:
    places = set()
    for name, node in nodes():
        said, call = fault_dict(node), fault_call(name, node)
        if (said and not word(said["kind"])) or (call and not (call.args and word(call.args[0]))):
            places.add(name)
    assert places == {
        "archive/faults.py",  # `Outage`, of the archive or of the fallback
        "roles/collector_note.py",  # STREAM_TROUBLE
        "roles/disk_watch.py",  # `_guarded`, see `disk_threads_own`
        "roles/faults.py",  # `FaultBook` shows what it was given
    }


def test_every_fault_has_a_page_of_its_own() -> None:
    astray = {
        fault["kind"]
        for fault in FAULTS
        if fault_kind(fault) == "archive_unknown" and (fault["kind"], fault["class"]) != ("archive", "unknown")
    }
    assert astray == set()
    classes = {fault_class(number) for number in errno.errorcode} | {"unknown", "hung", "changed"}  # the last two have no errno
    assert classes == {kind.removeprefix("archive_") for kind in KINDS if kind.startswith("archive_")}
    assert classes == {fault["class"] for fault in FAULTS if fault["kind"] == "archive"}


def test_every_kind_is_sent_by_something() -> None:
    assert sent_directly().keys() | FAULT_KINDS == KINDS.keys()
    assert not sent_directly().keys() & FAULT_KINDS


# --- the catalogs ---


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_has_one_entry_and_no_other_is_there(name: str) -> None:
    ids = [message_id for message_id, _ in read(name)]
    assert sorted(ids) == sorted(set(ids)) == sorted(KINDS.values())
    assert all(re.fullmatch(r"[0-9a-f]{32}", message_id) for message_id in ids)
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_an_entry_says_what_happened_what_observer_does_and_what_to_do(name: str, kind: str) -> None:
    page = PAGES[name][kind]
    assert page.header.keys() == {"Subject", "Defined-By", "Documentation"}
    assert page.header["Subject"].strip() and page.header["Defined-By"] == "Observer"
    happened, by_itself, to_do = page.paragraphs
    assert happened and by_itself.startswith(BY_ITSELF[name]) and to_do.startswith(TO_DO[name])
    assert page.commands, "not even a way to look"
    lines = [line for line in page.body.split("\n") if line]
    assert len(lines) <= LINES
    assert max(map(columns, [*lines, page.header["Subject"]])) <= COLUMNS
    assert not re.search(r"(?m)^#", page.body) and "\t" not in page.body and "\n\n\n" not in page.body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_a_faults_entry_is_right_for_its_begin_and_for_its_end(name: str, kind: str) -> None:
    page = PAGES[name][kind]
    assert "@OBSERVER_EVENT@" in page.paragraphs[0] and "fault_end" in page.paragraphs[0]
    assert page.paragraphs[2].startswith(UNLESS_OVER[name]) or kind == "balance"  # which is a bug also when it is over
    assert any("MESSAGE_ID=@MESSAGE_ID@" in command or command == "observer status" for command in page.commands), "does it last?"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "fields"), sorted(sent_directly().items()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_page_names_only_fields_that_all_entries_of_its_kind_have(name: str, kind: str, fields: set[str]) -> None:
    assert PAGES[name][kind].fields - fields - set(entry(kind, "x")["journal_entry"]) == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault['kind']}-{fault['class']}-{fault.get('errno', '')}")
def test_a_faults_page_names_only_fields_that_its_begin_its_repetition_and_its_end_have(
    fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    watch = FaultWatch()
    stated: tuple[tuple[float, list[dict[str, Any]]], ...] = ((100.0, [fault]), (161.0, [fault]), (170.0, []))
    for telling in (each for second, faults in stated for each in watch.compare({"janitor": faults}, second)):
        say_fault(logging.getLogger("observer.test_catalog"), telling)
    entries: list[dict[str, str]] = [vars(record)["journal_entry"] for record in caplog.records]
    assert [fields["OBSERVER_EVENT"] for fields in entries] == ["fault_begin", "fault_again", "fault_end"]
    for fields in entries:
        assert IDS[fields["MESSAGE_ID"]] == fault_kind(fault)
        for name in NAMES:
            assert PAGES[name][fault_kind(fault)].fields - fields.keys() == set()


@pytest.mark.parametrize("kind", KINDS)
def test_both_languages_name_the_same_fields_and_commands(kind: str) -> None:
    english, korean = (PAGES[name][kind] for name in NAMES)
    assert english.fields == korean.fields
    assert english.commands == korean.commands, "the same, in the same order"
    assert set(english.named) == set(korean.named)
    for pattern in (r"\[\w+\]", r"\b[a-z]+_[a-z_]+\b"):  # sections and keys of the configuration, kinds
        assert set(re.findall(pattern, english.body, re.ASCII)) == set(re.findall(pattern, korean.body, re.ASCII))


@pytest.mark.parametrize("kind", KINDS)
def test_the_korean_entry_is_korean_and_the_english_one_is_not(kind: str) -> None:
    english, korean = (PAGES[name][kind] for name in NAMES)
    for text in (korean.header["Subject"], *korean.paragraphs):
        assert re.search("[가-힣]", text)
    assert not re.search("[가-힣]", english.header["Subject"] + english.body)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_every_verb_and_option_of_ours_exists(name: str, kind: str) -> None:
    for command in PAGES[name][kind].named:
        words = shlex.split(re.sub(r"\s[|;].*", "", command))
        while words and words[0] == "sudo":
            words = words[3:] if words[1] == "-u" else words[1:]
        if words[0] != "observer":
            continue
        assert words[1] in VERBS, command
        parser = argparse.ArgumentParser()
        importlib.import_module(VERBS[words[1]].module).add_arguments(parser)
        parser.parse_args(words[2:])  # ends the test by SystemExit when there is no such option


# --- what systemd makes of them ---

JOURNALCTL = shutil.which("journalctl")
needs_journalctl = pytest.mark.skipif(
    JOURNALCTL is None, reason="there is no journalctl here: NOT tested that systemd can read observer.catalog and observer.ko.catalog"
)


def journalctl(root: Path, verb: str) -> str:
    """Run journalctl on the catalogs below ``root``."""
    assert JOURNALCTL is not None
    done = subprocess.run([JOURNALCTL, verb, "--root", str(root)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"journalctl {verb}: {done.stderr}"
    return done.stdout


def compiled(root: Path, names: dict[str, str]) -> Path:
    """Have systemd compile our catalogs ``names`` (ours: its name there); returns the database."""
    place = root / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    for ours, theirs in names.items():
        shutil.copy(ROOT / "systemd" / ours, place / theirs)
    journalctl(root, "--update-catalog")
    return root / "var/lib/systemd/catalog/database"


@needs_journalctl
@pytest.mark.parametrize("name", NAMES)
def test_systemd_reads_a_catalog_as_we_do(name: str, tmp_path: Path) -> None:
    compiled(tmp_path, {name: "observer.catalog"})  # without a language in its name, so that any locale shows it
    listed = dict(line.split(" ", 1) for line in journalctl(tmp_path, "--list-catalog").splitlines())
    assert listed == {message_id: f"Observer: {page.header['Subject']}" for message_id, page in read(name)}
    shown = "\n" + journalctl(tmp_path, "--dump-catalog")
    for message_id, page in read(name):
        fields = "".join(f"{key}: {value}\n" for key, value in page.header.items())
        assert f"\n-- {message_id}\n{fields}\n{page.body}\n" in shown


@needs_journalctl
def test_systemd_takes_the_language_from_the_files_name(tmp_path: Path) -> None:
    database = compiled(tmp_path, {name: name for name in NAMES}).read_bytes()
    size, count, each = struct.unpack_from("<QQQ", database, 16)  # CatalogHeader of systemd's sd-journal/catalog.c
    items = [struct.unpack_from("16s32s", database, size + number * each) for number in range(count)]
    found = {(message_id.hex(), language.rstrip(b"\0").decode()) for message_id, language in items}
    assert found == {(message_id, language) for message_id in KINDS.values() for language in ("", "ko")}
