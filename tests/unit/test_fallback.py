"""Where the fallback is, whose it is, what is remembered there, and what a merge leaves out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive import fallback
from observer.archive.fallback import ForeignFallback, claim, fallback_dir, held_bytes, note_suspects, suspects
from observer.archive.faults import Found, Standing, why_not_return
from observer.archive.identities import Identities
from observer.archive.merge import merge_in_slices
from observer.config import ArchiveConfig, Config
from observer.paths import Paths
from tests.hand_archive import HandArchive, at, trade

MIB = 1024 * 1024


def paths_in(place: Path) -> Paths:
    for name in ("archive", "cache", "run"):
        (place / name).mkdir(exist_ok=True)
    return Paths(asset_dir=place / "archive", rule="test", cache_dir=place / "cache", runtime_dir=place / "run")


def configured(given: str) -> Config:
    return replace(Config(), archive=ArchiveConfig(fallback=given))


def test_the_configured_directory_is_the_fallback_and_none_is_none(tmp_path: Path) -> None:
    paths = paths_in(tmp_path)
    assert fallback_dir(configured("/mnt/spare"), paths) == Path("/mnt/spare")
    assert fallback_dir(configured("none"), paths) is None


@pytest.mark.parametrize("elsewhere", [True, False])
def test_by_default_it_is_in_the_cache_if_that_is_on_another_device_and_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    paths = paths_in(tmp_path)
    monkeypatch.setattr(fallback, "device_of", lambda path: 2 if elsewhere and path == paths.cache_dir else 1)
    place = fallback_dir(configured(""), paths)
    assert place is not None and place.parent == (paths.cache_dir if elsewhere else paths.runtime_dir)
    claim(place, paths.asset_dir, "uuid")
    monkeypatch.setattr(fallback, "device_of", lambda path: 1 if elsewhere else 2 if path == paths.cache_dir else 1)
    assert fallback_dir(configured(""), paths) == place, "the archive's mount is gone, and the devices look alike"


def test_it_belongs_to_one_archive(tmp_path: Path) -> None:
    place, asset_dir = tmp_path / "fallback", tmp_path / "archive"
    claim(place, asset_dir, None)
    claim(place, asset_dir, "one")
    claim(place, asset_dir, None)
    claim(place, asset_dir, "one")
    for other in ((asset_dir, "two"), (tmp_path / "elsewhere", "one")):
        with pytest.raises(ForeignFallback, match="is the fallback of"):
            claim(place, *other)


@pytest.mark.parametrize("owner", ["", "[]", '{"uuid": "x"}', "\0"])
def test_an_owner_file_that_says_nothing_is_no_claim(tmp_path: Path, owner: str) -> None:
    place = tmp_path / "fallback"
    place.mkdir()
    (place / "owner").write_text(owner)
    with pytest.raises(ForeignFallback, match="does not say whose"):
        claim(place, tmp_path / "archive", "one")


def test_records_of_nobody_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "scalp" / "20261123").mkdir(parents=True)
    (tmp_path / "scalp" / "20261123" / "09_31_00.jsonl").write_text("{}\n")
    with pytest.raises(ForeignFallback, match="says not whose they are"):
        claim(tmp_path, tmp_path / "archive", "one")
    assert held_bytes(tmp_path) == 3


def test_what_is_to_be_cut_is_remembered_at_its_smallest(tmp_path: Path) -> None:
    note_suspects(tmp_path, {"a": 10, "b": 20})
    note_suspects(tmp_path, {"a": 15, "b": 5})
    assert suspects(tmp_path) == {"a": 10, "b": 5}
    (tmp_path / "suspect.json").write_text("no json")
    assert suspects(tmp_path) == {}


FINE = Found("", 0.5, 1000 * MIB, 10_000 * MIB)


@pytest.mark.parametrize(
    ("of", "found", "held", "standing", "why"),
    [
        ("space", FINE, 0, Standing.FALLBACK, ""),
        ("space", FINE._replace(error="No space left"), 0, Standing.FALLBACK, "No space left"),
        ("space", FINE._replace(used=0.86), 0, Standing.FALLBACK, "86% of its disk is used, it is returned to below 85%"),
        ("permission", FINE._replace(used=0.86), 0, Standing.FALLBACK, ""),
        ("permission", FINE._replace(used=0.98), 0, Standing.FALLBACK, "98% of its disk is used, it is returned to below 97%"),
        ("device", FINE._replace(free=100 * MIB), 30 * MIB, Standing.FALLBACK, ""),
        ("device", FINE._replace(free=100 * MIB), 40 * MIB, Standing.FALLBACK, "are needed"),
        ("device", FINE._replace(free=6 * MIB, size=64 * MIB), MIB, Standing.FALLBACK, ""),
        ("space", FINE._replace(used=0.99, free=2 * MIB), 0, Standing.HELD, ""),
        ("space", FINE._replace(used=1.0, free=0), 0, Standing.HELD, "only 0 bytes are free"),
    ],
)
def test_the_archive_is_returned_to_when_it_has_room_and_works(of: str, found: Found, held: int, standing: Standing, why: str) -> None:
    said = why_not_return(of, found, held, 0.85, 0.97, standing)
    assert (why in said) if why else said == ""


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 15)), max_size=12), st.integers(1, 60), st.integers(0, 60))
def test_what_is_held_and_its_gaps_make_up_the_whole(runs: list[tuple[int, int]], first: int, length: int) -> None:
    held, seqs = Identities(), set()
    for begin, more in runs:
        held.add("s", begin, begin + more)
        seqs |= set(range(begin, begin + more + 1))
    asked = range(first, first + length + 1)
    gaps = [seq for begin, end in held.gaps("s", asked[0], asked[-1]) for seq in range(begin, end + 1)]
    assert gaps == [seq for seq in asked if seq not in seqs]
    assert [seq for seq in asked if held.has("s", seq)] == [seq for seq in asked if seq in seqs]
    assert held.touch("s", asked[0], asked[-1]) == bool(seqs & set(asked))
    assert not held.has("t", first)


@pytest.mark.parametrize("sealed_on", ["20261124", "20261130"])
def test_a_merged_file_that_was_sealed_however_late_is_not_sealed_again(tmp_path: Path, sealed_on: str) -> None:
    archive, held = HandArchive(tmp_path / "archive"), HandArchive(tmp_path / "fallback")
    merged = archive.put(at("09:31:00"), trade(1), number=64)
    archive.seal(merged, at("10:00:00", sealed_on))
    path = held.put(at("09:31:01"), trade(2), seq=2)
    made = [step.seal for step in merge_in_slices(archive.root, held.root, path, lambda _: None) if step is not None and step.seal]
    assert [seal.path for seal in made] == [merged.replace(".64.", ".65.")]
