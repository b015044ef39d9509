"""A disk that loses power: what was fsynced survives, what was not may be missing, reordered, cut or zero-filled.

os.write, ftruncate, fsync, rename …  ──`Recorder`──▶ operations ──`after_power_loss`──▶ one of the disks there could be
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

WATCHED = ("open", "close", "write", "ftruncate", "truncate", "fdatasync", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir")


class Entry(NamedTuple):
    """A name in a directory leads to ``node``, and ``old``, if it is one, leads nowhere any more; None for ``node``: the name is gone."""

    directory: str
    name: str
    node: int | str | None
    old: str = ""


class Data(NamedTuple):
    """Bytes of a file, at an offset."""

    node: int
    offset: int
    data: bytes


class Size(NamedTuple):
    """A file was cut, or lengthened."""

    node: int
    size: int


class Sync(NamedTuple):
    """A file, or a directory (its path), was made durable."""

    node: int | str


Operation = Entry | Data | Size | Sync


class Recorder:
    """Records what changes below ``root`` while it is installed.

    Attributes:
        operations: in order.
        marks: what ``mark`` said before each of them, and at the end.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, mark: Callable[[], Any]) -> None:
        self.operations: list[Operation] = []
        self.marks: list[Any] = []
        self._root = str(root)
        self._mark = mark
        self._real = {name: getattr(os, name) for name in WATCHED}
        self._opened: dict[int, int | str] = {}
        self._nodes: dict[str, int | str] = {}
        self._sizes: dict[int, int] = {}
        for name in WATCHED:
            patch.setattr(os, name, getattr(self, f"_{name}"))

    def end(self) -> None:
        """The mark after the last operation."""
        self.marks.append(self._mark())

    def _add(self, operation: Operation) -> None:
        self.marks.append(self._mark())
        self.operations.append(operation)

    def _ours(self, path: Any) -> bool:
        return str(os.fspath(path)).startswith(self._root)

    def _enter(self, path: str, node: int | str | None, old: str = "") -> None:
        self._add(Entry(os.path.dirname(path), os.path.basename(path), node, old))  # noqa: PTH119, PTH120
        if node is not None:
            self._nodes[path] = node

    def _open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        there = os.path.lexists(path)
        descriptor: int = self._real["open"](path, flags, *rest, **more)
        name = os.fspath(path)
        if self._ours(path):
            if not there:
                node = len(self._sizes) + 1
                self._sizes[node] = 0
                self._enter(name, node)
            self._opened[descriptor] = self._nodes.get(name, name)
            if flags & os.O_TRUNC and there:
                self._cut(self._opened[descriptor], 0)
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._opened.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        node = self._opened.get(descriptor)
        if not isinstance(node, int):
            return int(self._real["write"](descriptor, data))
        self._add(Data(node, self._sizes[node], bytes(data)))
        self._sizes[node] += len(data)
        done: int = self._real["write"](descriptor, data)
        assert done == len(data)
        return done

    def _cut(self, node: Any, size: int) -> None:
        self._add(Size(node, size))
        self._sizes[node] = size

    def _ftruncate(self, descriptor: int, size: int) -> None:
        if descriptor in self._opened:
            self._cut(self._opened[descriptor], size)
        self._real["ftruncate"](descriptor, size)

    def _truncate(self, path: Any, size: int) -> None:
        if self._ours(path):
            self._cut(self._nodes[os.fspath(path)], size)
        self._real["truncate"](path, size)

    def _fdatasync(self, descriptor: int) -> None:
        self._real["fdatasync"](descriptor)
        if descriptor in self._opened:
            self._add(Sync(self._opened[descriptor]))

    def _fsync(self, descriptor: int) -> None:
        self._real["fsync"](descriptor)
        if descriptor in self._opened:
            self._add(Sync(self._opened[descriptor]))

    def _rename(self, source: Any, target: Any) -> None:
        self._real["rename"](source, target)
        if self._ours(source):
            old, new = os.fspath(source), os.fspath(target)
            assert Path(old).parent == Path(new).parent, "the model knows renames within a directory only"
            self._enter(new, self._nodes.pop(old), Path(old).name)

    def _replace(self, source: Any, target: Any) -> None:
        self._rename(source, target)

    def _unlink(self, path: Any, *rest: Any, **more: Any) -> None:
        self._real["unlink"](path, *rest, **more)
        if self._ours(path):
            self._enter(os.fspath(path), None)

    def _mkdir(self, path: Any, *rest: Any, **more: Any) -> None:
        self._real["mkdir"](path, *rest, **more)
        if self._ours(path):
            self._enter(os.fspath(path), os.fspath(path))

    def _rmdir(self, path: Any, *rest: Any, **more: Any) -> None:
        self._real["rmdir"](path, *rest, **more)
        if self._ours(path):
            self._enter(os.fspath(path), None)


class _Node:
    """A file: what is durable of it, and what happened since."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.since: list[Data | Size] = []

    def sync(self) -> None:
        for change in self.since:
            _apply(self.durable, change)
        self.since.clear()


def after_power_loss(operations: Sequence[Operation], root: Path, dice: Random, loss: float) -> None:
    """Make below ``root`` a disk that may be found after the power was lost behind the last of ``operations``.

    Args:
        operations: what happened below ``root``, in order.
        root: an existing directory, empty now as it was, durably, before.
        dice: decides.
        loss: how likely each change that was not made durable is lost or damaged, 0 … 1.
    """
    nodes: dict[int, _Node] = {}
    entries: dict[str, dict[str, int | str]] = {}
    waiting: dict[str, list[Entry]] = {}
    for operation in operations:
        match operation:
            case Entry():
                waiting.setdefault(operation.directory, []).append(operation)
            case Sync(node) if isinstance(node, str):
                for entry in waiting.pop(node, []):
                    _enter(entries.setdefault(node, {}), entry)
            case Sync(node):
                nodes.setdefault(node, _Node()).sync()  # type: ignore[arg-type]
            case _:
                nodes.setdefault(operation.node, _Node()).since.append(operation)
    for directory, changes in waiting.items():
        for entry in changes:
            if dice.random() >= loss:
                _enter(entries.setdefault(directory, {}), entry)
    _make(entries, nodes, root, dice, loss)


def _enter(names: dict[str, int | str], entry: Entry) -> None:
    names.pop(entry.old, None)
    if entry.node is None:
        names.pop(entry.name, None)
    else:
        names[entry.name] = entry.node


def _make(entries: dict[str, dict[str, int | str]], nodes: dict[int, _Node], place: Path, dice: Random, loss: float) -> None:
    for name, node in entries.get(str(place), {}).items():
        if isinstance(node, str):
            (place / name).mkdir()
            _make(entries, nodes, place / name, dice, loss)
        else:
            (place / name).write_bytes(_survivor(nodes.get(node, _Node()), dice, loss))


def _survivor(node: _Node, dice: Random, loss: float) -> bytes:
    content = bytearray(node.durable)
    changes = list(node.since)
    if dice.random() < loss:
        dice.shuffle(changes)
    for change in changes:
        if dice.random() >= loss:
            _apply(content, change)
        elif isinstance(change, Data):
            damaged = change.data[: dice.randrange(len(change.data) + 1)]
            _apply(content, change._replace(data=dice.choice((b"", damaged, bytes(len(damaged))))))
    return bytes(content)


def _apply(content: bytearray, change: Data | Size) -> None:
    if isinstance(change, Size):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    if change.data:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data
