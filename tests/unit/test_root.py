"""The archive's root: made once, marked, recognised, and never made in the place of a missing disk."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import pwd
import stat
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from observer import settings as observer_settings
from observer.archive import mounts as observer_mounts
from observer.archive import places, verb_paths
from observer.archive import probe as observer_probe
from observer.archive import root as observer_root
from observer.archive.layout import MARKER, TRACK_DIRS
from observer.archive.modes import Wrong, find_wrong
from observer.archive.mounts import Mount, mount_of, parse_mountinfo
from observer.archive.probe import denied_component, probe_write
from observer.archive.root import KNOWN_ARCHIVES, MissingMount, forget, known_archives, make_dirs, open_root, read_marker, why_missing
from observer.config import ArchiveConfig, Config, DiskConfig
from observer.errors import EXIT_FOUND, EXIT_OK
from observer.paths import RULE_CHECKOUT, RULE_SYSTEMD, Paths
from observer.settings import Settings

# A mount table of a host with a data disk, a stacked mount, a name with a space, and a bind mount of the same device.
MOUNTINFO = r"""24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:22 / /proc rw - proc proc rw
30 24 8:17 / /data rw - xfs /dev/sdb1 rw
31 30 8:33 / /data rw - ext4 /dev/sdc1 rw
32 24 8:1 /srv/x /bind rw shared:1 master:2 - ext4 /dev/sda1 rw
33 24 0:40 / /with\040space rw - tmpfs tmpfs rw
34 24 0:41 / /run rw - tmpfs tmpfs rw
odd line
"""
ROOT_DISK = Mount(Path("/"), "ext4", "/dev/sda1", "8:1")


def paths_in(directory: Path, rule: str = RULE_SYSTEMD) -> Paths:
    return Paths(directory / "data" / "archive", rule, directory / "cache", directory / "run")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[Mount]:
    """The mounts that everybody sees; a test may change them."""
    table = [ROOT_DISK]
    for module in (observer_root, places):
        monkeypatch.setattr(module, "mounts", lambda: table)
    return table


class TestOpening:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_a_new_archive_has_its_directories_marker_and_modes_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        paths = paths_in(tmp_path)
        before = os.umask(umask)
        try:
            root = open_root(paths, "")
        finally:
            os.umask(before)
        assert [mode(paths.asset_dir / name) for name in ("..", ".", *TRACK_DIRS)] == [0o750] * 5
        assert mode(paths.asset_dir / MARKER) == 0o640
        assert str(uuid.UUID((paths.asset_dir / MARKER).read_text().strip())) == root.uuid
        assert (root.path, root.device) == (paths.asset_dir, paths.asset_dir.stat().st_dev)
        assert sorted(path.name for path in paths.asset_dir.iterdir()) == sorted([MARKER, *TRACK_DIRS])
        assert [mode(path) for path in (paths.cache_dir, paths.cache_dir / KNOWN_ARCHIVES)] == [0o700, 0o600]

    def test_opening_again_finds_the_same_archive(self, tmp_path: Path) -> None:
        assert open_root(paths_in(tmp_path), "") == open_root(paths_in(tmp_path), "")

    def test_a_track_directory_that_was_removed_is_made_again(self, tmp_path: Path) -> None:
        open_root(paths_in(tmp_path), "")
        (paths_in(tmp_path).asset_dir / "scalp").rmdir()
        open_root(paths_in(tmp_path), "")
        assert (paths_in(tmp_path).asset_dir / "scalp").is_dir()

    def test_an_archive_without_marker_that_was_never_known_gets_one(self, tmp_path: Path) -> None:
        paths = paths_in(tmp_path)
        (paths.asset_dir / "scalp" / "20261123").mkdir(parents=True)
        assert open_root(paths, "").uuid == read_marker(paths.asset_dir)

    def test_another_archive_at_the_same_place_is_taken_and_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        paths = paths_in(tmp_path)
        old = open_root(paths, "").uuid
        other = str(uuid.uuid4())
        (paths.asset_dir / MARKER).write_text(other)
        with caplog.at_level(logging.WARNING):
            assert open_root(paths, "").uuid == other
        assert f"holds archive {other} now, it held {old} before" in caplog.text
        assert known_archives(paths) == {str(paths.asset_dir): other}

    def test_archives_that_are_known_elsewhere_stay_known(self, tmp_path: Path) -> None:
        first = paths_in(tmp_path)
        second = replace(first, asset_dir=tmp_path / "other")
        names = {str(paths.asset_dir): open_root(paths, "").uuid for paths in (first, second)}
        assert known_archives(first) == names

    def test_a_file_in_the_place_of_the_root_is_an_os_error(self, tmp_path: Path) -> None:
        paths = paths_in(tmp_path)
        paths.asset_dir.parent.mkdir()
        paths.asset_dir.touch()
        with pytest.raises(NotADirectoryError):
            open_root(paths, "")

    def test_a_cache_that_cannot_be_written_does_not_keep_the_archive_closed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        paths = paths_in(tmp_path)
        paths.cache_dir.touch()
        with caplog.at_level(logging.WARNING):
            assert open_root(paths, "").path == paths.asset_dir
        assert "cannot be remembered" in caplog.text

    @pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
    def test_a_damaged_memory_of_archives_is_said_and_written_anew(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
    ) -> None:
        paths = paths_in(tmp_path)
        paths.cache_dir.mkdir()
        (paths.cache_dir / KNOWN_ARCHIVES).write_text(content)
        with caplog.at_level(logging.WARNING):
            name = open_root(paths, "").uuid
        assert "a missing mount may not be noticed" in caplog.text
        assert json.loads((paths.cache_dir / KNOWN_ARCHIVES).read_text()) == {str(paths.asset_dir): name}

    def test_a_marker_that_cannot_be_written_leaves_no_part_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = paths_in(tmp_path)
        make_dirs(paths.asset_dir)

        def refuse(self: Path, target: Path) -> Path:
            raise OSError(errno.EIO, "Input/output error", str(target))

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            open_root(paths, "")
        assert sorted(path.name for path in paths.asset_dir.iterdir()) == sorted(TRACK_DIRS)


class TestMissingMount:
    def test_a_known_root_without_its_marker_is_refused_and_nothing_is_made(self, tmp_path: Path) -> None:
        paths = paths_in(tmp_path)
        name = open_root(paths, "").uuid
        paths.asset_dir.rename(tmp_path / "unmounted")
        with pytest.raises(MissingMount, match=name) as caught:
            open_root(paths, "")
        assert "mount" in caught.value.hint
        assert not paths.asset_dir.exists()

    def test_a_known_root_that_is_an_empty_mount_point_stays_empty(self, tmp_path: Path) -> None:
        paths = paths_in(tmp_path)
        open_root(paths, "")
        paths.asset_dir.rename(tmp_path / "unmounted")
        paths.asset_dir.mkdir()
        with pytest.raises(MissingMount):
            open_root(paths, "")
        assert list(paths.asset_dir.iterdir()) == []

    @pytest.mark.parametrize("content", ["", "no uuid", "\xff"])
    def test_a_damaged_marker_counts_as_none(self, tmp_path: Path, content: str) -> None:
        paths = paths_in(tmp_path)
        open_root(paths, "")
        (paths.asset_dir / MARKER).write_text(content)
        with pytest.raises(MissingMount):
            open_root(paths, "")

    def test_when_the_disk_is_back_it_is_the_same_archive(self, tmp_path: Path) -> None:
        paths = paths_in(tmp_path)
        name = open_root(paths, "").uuid
        paths.asset_dir.rename(tmp_path / "unmounted")
        assert why_missing(paths, "") is not None
        (tmp_path / "unmounted").rename(paths.asset_dir)
        assert open_root(paths, "").uuid == name

    def test_after_forgetting_a_new_archive_may_begin(self, tmp_path: Path) -> None:
        paths = paths_in(tmp_path)
        name = open_root(paths, "").uuid
        paths.asset_dir.rename(tmp_path / "unmounted")
        assert forget(paths) is True
        assert forget(paths) is False
        assert open_root(paths, "").uuid != name

    def test_a_root_on_another_mount_than_expected_is_refused_and_nothing_is_made(self, tmp_path: Path, mounted: list[Mount]) -> None:
        paths = paths_in(tmp_path)
        with pytest.raises(MissingMount, match=r"is on / .*expect_mount"):
            open_root(paths, str(tmp_path / "data"))
        assert list(tmp_path.iterdir()) == []
        mounted.append(Mount(tmp_path / "data", "xfs", "/dev/sdb1", "8:17"))
        assert open_root(paths, str(tmp_path / "data")).path == paths.asset_dir

    def test_a_deeper_mount_than_expected_is_another_device(self, tmp_path: Path, mounted: list[Mount]) -> None:
        mounted.append(Mount(tmp_path, "xfs", "/dev/sdb1", "8:17"))
        mounted.append(Mount(tmp_path / "data", "tmpfs", "tmpfs", "0:3"))
        with pytest.raises(MissingMount):
            open_root(paths_in(tmp_path), str(tmp_path))

    def test_the_root_mount_may_be_expected(self, tmp_path: Path, mounted: list[Mount]) -> None:
        assert mounted == [ROOT_DISK]
        assert open_root(paths_in(tmp_path), "/").uuid


class TestMounts:
    def test_a_mount_table_is_read_with_escaped_names_and_odd_lines_left_out(self) -> None:
        table = parse_mountinfo(MOUNTINFO)
        assert table[0] == ROOT_DISK
        assert [str(mount.point) for mount in table] == ["/", "/proc", "/data", "/data", "/bind", "/with space", "/run"]

    @pytest.mark.parametrize(
        ("path", "source"),
        [
            ("/x", "/dev/sda1"),
            ("/database", "/dev/sda1"),
            ("/data", "/dev/sdc1"),
            ("/data/not/there/yet", "/dev/sdc1"),
            ("/bind/y", "/dev/sda1"),
            ("/with space/a", "tmpfs"),
        ],
    )
    def test_the_deepest_and_newest_mount_holds_a_path(self, path: str, source: str) -> None:
        found = mount_of(Path(path), parse_mountinfo(MOUNTINFO))
        assert found is not None
        assert found.source == source

    def test_a_symbolic_link_is_followed_to_its_mount(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        table = [ROOT_DISK, Mount(tmp_path / "real", "xfs", "/dev/sdb1", "8:17")]
        assert mount_of(tmp_path / "link" / "a", table) == table[1]

    def test_this_host_has_a_root_mount(self) -> None:
        assert mount_of(Path("/proc/self"), observer_mounts.mounts()) is not None


class TestProbe:
    def test_a_good_directory_is_probed_without_a_trace(self, tmp_path: Path) -> None:
        found = probe_write(tmp_path)
        assert found.error is None
        assert found.took_ms > 0
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_directory_is_an_error(self, tmp_path: Path) -> None:
        found = probe_write(tmp_path / "none")
        assert found.error is not None
        assert found.error.errno == errno.ENOENT

    def test_a_failing_fsync_is_an_error_and_the_file_is_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        found = probe_write(tmp_path)
        assert found.error is not None
        assert found.error.errno == errno.EIO
        assert list(tmp_path.iterdir()) == []

    def test_the_component_in_the_way_is_named_with_owner_mode_and_our_uid(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = tmp_path / "closed"
        (closed / "inner").mkdir(parents=True)
        closed.chmod(0o700)

        def access(path: Path, _mode: int, *, effective_ids: bool) -> bool:  # as it is for an account that is not root
            return not (effective_ids and path == closed)

        monkeypatch.setattr(os, "access", access)
        found = denied_component(closed / "inner")
        assert found.startswith(f"{closed} belongs to ")
        assert found.endswith(f"with mode 0700; our uid is {os.geteuid()}")
        monkeypatch.undo()
        assert denied_component(tmp_path) == ""

    def test_what_is_missing_or_no_directory_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert denied_component(tmp_path / "file").endswith("is no directory")
        assert "No such file" in denied_component(tmp_path / "none" / "deeper")

    def test_an_owner_without_a_name_is_shown_as_a_number(self, tmp_path: Path) -> None:
        status = os.stat_result((0o40750, 1, 1, 1, 987654, 987655, 0, 0, 0, 0))
        assert observer_probe.owner_text(status) == "987654:987655"
        assert ":" in observer_probe.owner_text(tmp_path.stat())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with wrong modes at every level."""
    paths = paths_in(tmp_path)
    root = open_root(paths, "").path
    make_dirs(root / "scalp" / "20261123")
    for name, wrong in (("09_30_00.jsonl", 0o640), ("09_31_00.jsonl", 0o600), ("09_32_00.jsonl", 0o666)):
        (root / "scalp" / "20261123" / name).touch()
        (root / "scalp" / "20261123" / name).chmod(wrong)
    (root / "system").chmod(0o755)
    return root


def owner_of(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


class TestModes:
    def test_exactly_the_wrong_ones_are_found(self, archive: Path) -> None:
        assert list(find_wrong(archive, owner_of(archive), mend=False)) == [
            Wrong(Path("scalp/20261123/09_31_00.jsonl"), 0o600, None),
            Wrong(Path("scalp/20261123/09_32_00.jsonl"), 0o666, None),
            Wrong(Path("system"), 0o755, None),
        ]

    def test_mending_leaves_nothing_wrong_and_no_content_changed(self, archive: Path) -> None:
        marker = (archive / MARKER).read_text()
        assert len(list(find_wrong(archive, owner_of(archive), mend=True))) == 3
        assert list(find_wrong(archive, owner_of(archive), mend=False)) == []
        assert (archive / MARKER).read_text() == marker

    def test_a_group_bit_of_a_directory_is_the_operators_choice(self, archive: Path) -> None:
        (archive / "system").chmod(0o2750)
        (archive / "swing").chmod(0o2777)
        wrong = {item.path: item for item in find_wrong(archive, owner_of(archive), mend=True)}
        assert Path("system") not in wrong
        assert mode(archive / "swing") == 0o2750

    def test_links_and_foreign_directories_are_never_touched(self, archive: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir(mode=0o777)
        (outside / "file").touch()
        (outside / "file").chmod(0o666)
        (archive / "link").symlink_to(outside)
        (archive / "link-to-file").symlink_to(outside / "file")
        (archive / "lost+found").mkdir(mode=0o700)
        os.mkfifo(archive / "pipe", 0o666)
        list(find_wrong(archive, owner_of(archive), mend=True))
        assert mode(outside / "file") == 0o666
        assert mode(archive / "lost+found") == 0o700

    def test_another_owner_is_found(self, archive: Path) -> None:
        other = (os.getuid() + 1, os.getgid())
        found = list(find_wrong(archive, other, mend=False))
        assert found[0].path == Path()
        assert all(item.owner == owner_of(archive) for item in found)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_as_root_the_owner_is_mended(self, archive: Path) -> None:
        list(find_wrong(archive, (12345, 12346), mend=True))
        assert owner_of(archive / "scalp" / "20261123" / "09_31_00.jsonl") == (12345, 12346)
        assert list(find_wrong(archive, (12345, 12346), mend=False)) == []


class TestPathsVerb:
    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: list[Mount]) -> Settings:
        assert mounted == [ROOT_DISK]
        config = replace(Config(), archive=ArchiveConfig(expect_mount="/"), disk=DiskConfig(warn=0.998, clean=0.999, stop=1))
        found = Settings(config, None, paths_in(tmp_path), {"KIS_APP_KEY": "the-app-key", "KIS_APP_SECRET": "the-secret"})
        monkeypatch.setattr(observer_settings, "load", lambda *_: found)
        return found

    def ask(self, capsys: pytest.CaptureFixture[str], **options: bool) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        verb_paths.add_arguments(parser)
        args = parser.parse_args([f"--{name}" for name, value in options.items() if value], argparse.Namespace(config=None))
        code = verb_paths.run(args)
        return code, capsys.readouterr().out

    def test_a_good_archive_is_shown_with_all_its_facts_and_no_secret(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        name = open_root(settings.paths, "/").uuid
        settings.paths.runtime_dir.mkdir(mode=0o700)
        code, text = self.ask(capsys)
        assert code == EXIT_OK, text
        for fact in (
            str(settings.paths.asset_dir),
            RULE_SYSTEMD,
            name,
            "0750",
            "ext4 on / (/dev/sda1)",
            "GiB free",
            "inodes",
            "write probe",
        ):
            assert fact in text
        for track in (*TRACK_DIRS, "cache", "runtime", "config", "credentials", "expected on"):
            assert track in text
        assert "environment (KIS_APP_KEY, KIS_APP_SECRET)" in text
        assert "the-secret" not in text

    def test_an_archive_that_is_not_there_yet_is_no_fault_and_is_not_made(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, text = self.ask(capsys, fix=True)
        assert code == EXIT_OK, text
        assert "not there yet" in text
        assert not settings.paths.asset_dir.exists()

    def test_json_says_the_same(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        name = open_root(settings.paths, "/").uuid
        (settings.paths.asset_dir / "swing").chmod(0o700)
        code, text = self.ask(capsys, json=True)
        report = json.loads(text)
        assert code == EXIT_FOUND
        assert (report["marker"], report["rule"]) == (name, RULE_SYSTEMD)
        assert report["places"]["archive"]["mode"] == "0750"
        assert report["places"]["archive"]["probe"] == "ok"
        assert [item["place"] for item in report["findings"]] == ["archive"]
        assert "the-secret" not in text

    def test_wrong_modes_are_found_and_mended(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        open_root(settings.paths, "/")
        (settings.paths.asset_dir / "swing").chmod(0o700)
        settings.paths.cache_dir.chmod(0o777)
        code, text = self.ask(capsys)
        assert code == EXIT_FOUND
        assert "have another mode than 0750 or 0640, first swing (0700)" in text
        assert "may be written by others (mode 0777)" in text
        assert self.ask(capsys, fix=True)[0] == EXIT_OK
        assert (mode(settings.paths.asset_dir / "swing"), mode(settings.paths.cache_dir)) == (0o750, 0o755)
        assert self.ask(capsys)[0] == EXIT_OK

    def test_a_missing_mount_is_found_and_may_be_adopted(
        self, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        open_root(settings.paths, "/")
        settings.paths.asset_dir.rename(tmp_path / "unmounted")
        code, text = self.ask(capsys)
        assert code == EXIT_FOUND
        assert "has no marker .archive" in text
        assert not settings.paths.asset_dir.exists()
        assert self.ask(capsys, adopt=True)[0] == EXIT_OK

    def test_a_directory_that_cannot_be_written_is_found_with_the_reason(
        self, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_root(settings.paths, "/")
        error = OSError(errno.EROFS, "Read-only file system")
        monkeypatch.setattr(places, "probe_write", lambda _: observer_probe.Probe(error, 0.1))
        code, text = self.ask(capsys)
        assert code == EXIT_FOUND
        assert "cannot be written: Read-only file system (ext4 on /)" in text

    def test_a_file_in_the_place_of_the_archive_is_found(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        settings.paths.asset_dir.parent.mkdir()
        settings.paths.asset_dir.touch()
        code, text = self.ask(capsys)
        assert code == EXIT_FOUND
        assert "is no directory" in text


class TestDisk:
    @pytest.mark.parametrize(
        ("kind", "point", "rule", "expect", "words"),
        [
            ("ext4", "/", RULE_SYSTEMD, "", "on the system's own disk"),
            ("ext4", "/", RULE_SYSTEMD, "/", ""),
            ("ext4", "/", RULE_CHECKOUT, "", ""),
            ("overlay", "/", RULE_SYSTEMD, "", "vanishes with the container"),
            ("tmpfs", "{tmp}", RULE_SYSTEMD, "", "vanishes with the container"),
            ("xfs", "{tmp}", RULE_SYSTEMD, "", ""),
            ("xfs", "/", RULE_SYSTEMD, "/data", "expect_mount"),
        ],
    )
    def test_the_archives_disk_is_judged(
        self, tmp_path: Path, mounted: list[Mount], kind: str, point: str, rule: str, expect: str, words: str
    ) -> None:
        mounted[:] = [ROOT_DISK, Mount(Path(point.format(tmp=tmp_path)), kind, "source", "1:1")]
        config = replace(Config(), archive=ArchiveConfig(expect_mount=expect))
        found = list(places.judge_disk(paths_in(tmp_path, rule), config))
        assert len(found) == bool(words)
        assert not words or words in found[0].what

    def test_a_full_disk_and_few_inodes_are_found(self, tmp_path: Path) -> None:
        space = os.statvfs_result((4096, 4096, 1000, 150, 100, 10_000, 900, 900, 0, 255))
        place = places.Place("archive", tmp_path, tmp_path.stat(), ROOT_DISK, space, None)
        settings = Settings(Config(), None, paths_in(tmp_path, RULE_CHECKOUT), {})
        words = [item.what for item in places.judge(settings, [place])]
        assert round(place.used, 3) == 0.895  # of 950 blocks that are not root's own
        assert any("89% of the disk" in text for text in words)
        assert any("only 900 inodes" in text for text in words)

    def test_a_filesystem_that_does_not_count_inodes_is_not_said_to_lack_them(self, tmp_path: Path) -> None:
        space = os.statvfs_result((4096, 4096, 1000, 900, 900, 0, 0, 0, 0, 255))
        place = places.Place("archive", tmp_path, tmp_path.stat(), ROOT_DISK, space, None)
        assert list(places.judge(Settings(Config(), None, paths_in(tmp_path, RULE_CHECKOUT), {}), [place])) == []

    def test_a_root_owned_archive_should_belong_to_the_service_account(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = paths_in(tmp_path)
        make_dirs(paths.asset_dir)
        monkeypatch.setattr(places, "SERVICE_ACCOUNT", "nobody")
        expected = owner_of(paths.asset_dir)
        if expected[0] == 0:
            account = pwd.getpwnam("nobody")
            expected = (account.pw_uid, account.pw_gid)
        assert places.wanted_owner(paths) == expected
        monkeypatch.setattr(places, "SERVICE_ACCOUNT", "no-such-account")
        assert places.wanted_owner(paths) == owner_of(paths.asset_dir)
