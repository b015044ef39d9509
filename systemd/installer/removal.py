"""Takes an installation away: by its record, so that what it did not put there stays.

Guarantees: without a record nothing is removed. The service is stopped before anything goes. Configuration, keys, archive, cache
and account stay, unless a purge is asked for; what stays is said. An interrupted removal is completed by the next.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace as changed
from pathlib import Path

from hand import Failure, Hand, ask, say
from placement import CONFIG, ETC, KEPT, PENDING, RECORD, Record
from release import CURRENT, HOME, PREVIOUS, VERSIONS
from service import ACCOUNT, UNIT, Service

STATE = Path("/var/lib/observer")
DATA = (STATE, Path("/var/cache/observer"), Path("/run/observer"))
DROP_INS = Path(f"/etc/systemd/system/{UNIT}.d")
ENABLED = Path("/etc/systemd/system/multi-user.target.wants") / UNIT


def uninstall(hand: Hand, *, purge: bool) -> None:
    """Stop the service and remove what was installed.

    Args:
        purge: remove the operator's files and the archive, too.

    Raises:
        Failure: the service does not stop (nothing was removed), or something could not be removed (the rest was).
    """
    if not any(hand.at(place).is_file() for place in (RECORD, KEPT)):
        say(f"there is no record of an installation ({hand.at(RECORD)}): nothing was removed")
        return
    record = Record.read(hand)
    service = Service(hand)
    if record.files:
        service.stop()
        hand.stage = "some files are removed; run `make uninstall` again, it completes this"
        for path in sorted({*record.files, ENABLED}):
            hand.remove(path)
        service.read_anew()
        service.forget()
    if purge:
        _purge(hand, record)
    elif hand.at(ETC).is_dir():
        changed(record, version="", files=()).write(hand, KEPT)
    for path in (CURRENT, PREVIOUS):
        hand.remove(path)
    hand.remove_tree(VERSIONS)
    _remove_directories(hand, record, purge)
    if not purge:
        kept = [str(path) for path in (hand.at(each) for each in (ETC, *DATA)) if path.exists()]
        kept += [f"the user {ACCOUNT}"] if service.has_account() else []
        say(f"kept {', '.join(kept)}; `make uninstall PURGE=1` removes them, the archive too" if kept else "nothing else was there")
    hand.stage = "Observer is removed"
    if hand.problems:
        raise Failure("not all could be removed: " + "; ".join(hand.problems), "see what they say, then `make uninstall` again")
    say("this was a dry run: nothing was changed" if hand.dry else "Observer is removed")


def _remove_directories(hand: Hand, record: Record, purge: bool) -> None:
    """The deepest first. /opt/observer goes with the record, last of all that we know of; then what held it."""
    ours = sorted((path for path in record.directories if purge or (path != ETC and ETC not in path.parents)), reverse=True)
    above = [path for path in ours if path in HOME.parents]
    for path in ours:
        if path not in above and path not in (HOME, VERSIONS):
            hand.remove_empty(path)
    for path in (PENDING, RECORD):
        hand.remove(path)
    for path in (HOME, *above):
        hand.remove_empty(path)


def _purge(hand: Hand, record: Record) -> None:
    elsewhere = _archive_elsewhere(hand)
    for path in (ETC, *DATA):
        hand.remove_tree(path)
    hand.remove_empty(DROP_INS)
    if elsewhere:
        say(f"kept {elsewhere}: an archive outside of {STATE} ([archive] root) is yours to remove")
    if not hand.live:
        say(f"not run for a DESTDIR: userdel {ACCOUNT}")
        return
    if not record.account:
        say(f"kept the user {ACCOUNT}: it was there before Observer")
        return
    for kind, command in (("passwd", "userdel"), ("group", "groupdel")):
        if ask(["getent", kind, ACCOUNT]):
            try:
                hand.run([command, ACCOUNT], f"removing {ACCOUNT}")
            except Failure as failure:
                hand.problems.append(failure.what)


def _archive_elsewhere(hand: Hand) -> str:
    """Where the configuration puts the archive, when that is not where a purge removes it."""
    real = hand.at(CONFIG)
    try:
        told = tomllib.loads(real.read_text()).get("archive", {})
    except (OSError, ValueError):
        return ""
    root = told.get("root", "") if isinstance(told, dict) else ""
    return root if isinstance(root, str) and root and not Path(root).is_relative_to(STATE) else ""
