"""Installs and upgrades: the new version is built and asked first, then the host's files and `current` change, then the service.

      build ─▶ check ─▶ pending ─▶ files, current ─▶ systemd reads ─▶ restart ─▶ done: record, prune
                 │ 78                                                  │ does not become active
                 ▼                                                     ▼
           nothing changed                              files and current of before, restart, exit 1

Guarantees: up to `pending` nothing that runs is changed. From there on, wherever it is killed, the next installation finds the
mark and goes through all steps that are left, the restart included. The operator's configuration and keys are never written.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from dataclasses import replace as changed
from pathlib import Path

from hand import Failure, Hand, say
from placement import CONFIG, CREDENTIALS, ETC, KEPT, KEYS, PENDING, READABLE, Pending, Placement, Record, lock
from release import CURRENT, HOME, PREVIOUS, SHARE, VERSIONS, Bundle, Interpreter, build, check_config, is_complete, linked, prune
from service import RUNNING, UNIT, Service

MOST_PAIRS = 4


def install(hand: Hand, bundle: Bundle, interpreter: Interpreter, placement: Placement) -> None:
    """Have this bundle's version installed, and running if the service ran.

    Raises:
        Failure: it is not; what ran before still runs, or what to do is said.
    """
    _require_ours(hand, bundle, placement, Record.read(hand))
    fresh = [path for path in placement.directories(bundle.root / "systemd") if not hand.at(path).exists()]
    hand.directory(HOME, 0o755)
    with lock(hand):
        record = Record.read(hand)
        if hand.live and not Service(hand).has_account():
            record = changed(record, account=True)
        files = (*record.files, *placement.files(bundle.root / "systemd"))
        record = changed(record, files=tuple(dict.fromkeys(files)), directories=tuple(dict.fromkeys((*record.directories, *fresh))))
        record.write(hand)
        name = build(hand, bundle, interpreter)
        hand.stage = f"nothing that runs was changed; {name} is built and waits for the next `make install`"
        config = CONFIG if hand.at(CONFIG).is_file() else VERSIONS / name / SHARE / "config/observer.toml"
        if not hand.dry:
            check_config(hand, name, hand.at(config))
        _change(hand, bundle, placement, name)
        _finish(hand, bundle, placement, record, name)
    _doctor(hand, placement)
    _closing_words(hand)


def _require_ours(hand: Hand, bundle: Bundle, placement: Placement, record: Record) -> None:
    """Raises Failure when a file that is not ours would be replaced, or what is installed lies below another PREFIX."""
    if record.files and placement.command not in record.files:
        where = next((path.parents[1] for path in record.files if path.parent.name == "bin"), "another")
        hint = f"`make install PREFIX={where}`; or `make uninstall` first: configuration and archive stay"
        raise Failure(f"Observer is installed with PREFIX={where}, not {placement.prefix}", hint)
    for path, (source, mode) in placement.files(bundle.root / "systemd").items():
        if path not in record.files and os.path.lexists(hand.at(path)) and not hand.is_right(path, source.read_bytes(), mode):
            raise Failure(
                f"{hand.at(path)} is there and no installation of Observer put it there", "move it away, then `make install` again"
            )


def _change(hand: Hand, bundle: Bundle, placement: Placement, name: str) -> None:
    """The steps from `pending` to the restart."""
    service = Service(hand)
    pending = Pending.read(hand)
    shipped = bundle.root / "systemd"
    if pending is not None:
        say("an installation was interrupted while it changed versions: it is completed now")
    is_new = pending is not None or linked(hand, CURRENT) != name or _differs(hand, placement, shipped)
    if pending is None:
        pending = Pending(linked(hand, CURRENT), service.is_meant_to_run())
    if is_new:
        pending.write(hand)
        hand.stage = "files of the new version are in place, others may not be; run `make install` again, it completes this"
    _place_configuration(hand, bundle)
    _place(hand, placement, shipped, name)
    service.make_account(placement.account)
    if not is_new:
        say("nothing is new: systemd need not read anything, and a service that runs goes on undisturbed")
        return
    service.read_anew()
    if not (pending.active or service.is_meant_to_run()):
        return
    hand.stage = f"{name} is in place and {UNIT} was told to restart; run `make install` again, or look at `systemctl status observer`"
    if not service.restart():
        _go_back(hand, service, placement, pending.before, name)


def _place_configuration(hand: Hand, bundle: Bundle) -> None:
    default = (bundle.root / "config/observer.toml").read_bytes()
    hand.directory(ETC, 0o755)
    if hand.at(CONFIG).exists():
        say(f"kept {hand.at(CONFIG)}, which is yours")
    else:
        hand.file(CONFIG, default, READABLE)
    hand.file(CONFIG.with_name(f"{CONFIG.name}.default"), default, READABLE)
    hand.directory(CREDENTIALS, 0o700, strict=True)


def _differs(hand: Hand, placement: Placement, shipped: Path) -> bool:
    return any(not hand.is_right(path, source.read_bytes(), mode) for path, (source, mode) in placement.files(shipped).items())


def _place(hand: Hand, placement: Placement, shipped: Path, name: str) -> None:
    """Put the files of one version where the host looks for them, and have `current` name it."""
    for path, (source, mode) in placement.files(shipped).items():
        if not hand.at(path.parent).is_dir():
            hand.directory(path.parent, 0o755)
        hand.file(path, source.read_bytes(), mode)
    hand.link(CURRENT, f"versions/{name}")


def _go_back(hand: Hand, service: Service, placement: Placement, before: str, name: str) -> None:
    """The way back to the version that ran.

    Raises:
        Failure: always; it says which version runs now.
    """
    words = service.last_words()
    say(f"the last words of {name}:\n{words}" if words else f"{name} left no words in the journal")
    failed = f"{name} did not start"
    if before == name or not is_complete(hand, before):
        why = "no other version is there to go back to" if before != name else "it is the version that ran before, too"
        hand.at(PENDING).unlink(missing_ok=True)
        raise Failure(f"{failed}, and {why}", f"see `journalctl -u {UNIT} -e`; correct what it says, then `systemctl restart observer`")
    say(f"going back to {before}")
    hand.stage = f"on the way back to {before}; `make install` of the version that you want completes this"
    _place(hand, placement, hand.at(VERSIONS / before) / SHARE / "systemd", before)
    service.read_anew()
    runs = service.restart()
    hand.at(PENDING).unlink(missing_ok=True)
    hint = f"its words stand above; {hand.at(VERSIONS / name)} stays for a look, and the next version removes it"
    raise Failure(f"{failed}; {before} {'runs again' if runs else 'is back in its place, but does not start either'}", hint)


def _finish(hand: Hand, bundle: Bundle, placement: Placement, record: Record, name: str) -> None:
    """What is left of older installations goes; the record says what is there."""
    pending = Pending.read(hand)
    if pending is not None and pending.before not in ("", name) and is_complete(hand, pending.before):
        hand.link(PREVIOUS, f"versions/{pending.before}")
    wanted = placement.files(bundle.root / "systemd")
    for path in record.files:
        if path not in wanted:
            hand.remove(path)
    if not hand.dry:
        changed(record, version=name, files=tuple(wanted)).write(hand)
        hand.at(PENDING).unlink(missing_ok=True)
        hand.at(KEPT).unlink(missing_ok=True)
    prune(hand, frozenset({name, linked(hand, CURRENT), linked(hand, PREVIOUS)}))
    hand.stage = f"{name} is installed"


def _doctor(hand: Hand, placement: Placement) -> None:
    """Shown, and no reason to call the installation failed."""
    command = [str(placement.command), "doctor"]
    if not hand.live:
        say(f"not run for a DESTDIR: systemctl daemon-reload, journalctl --update-catalog, {' '.join(command)}")
    elif hand.dry:
        hand.tell("ran", " ".join(command))
    else:
        say("what `observer doctor` says:")
        subprocess.run([str(hand.at(placement.command)), "doctor"], check=False, stdin=subprocess.DEVNULL)


def _closing_words(hand: Hand) -> None:
    wanted = [key if number == 1 else f"{key}_{number}" for number in range(1, _pairs(hand) + 1) for key in KEYS]
    missing = [key for key in wanted if not hand.at(CREDENTIALS / key).exists()]
    if missing:
        say("")
        say("The keys of KIS are not there yet. As root, for each: paste it, Enter, Ctrl-D.")
        for key in missing:
            say(f"  install -m 0600 /dev/stdin {CREDENTIALS / key}")
    service = Service(hand)
    if hand.dry:
        say("this was a dry run: nothing was changed")
    elif (state := service.look().state) == "active":
        say("Observer is installed and runs: observer status")
    elif state in RUNNING:
        say(f"Observer is installed; {UNIT} is {state}: systemctl status observer")
    else:
        say(f"Observer is installed and does not run yet. Look at {CONFIG}, then: systemctl enable --now observer")


def _pairs(hand: Hand) -> int:
    """How many pairs of keys the configuration asks for; whether it can be right is not our question."""
    try:
        asked = tomllib.loads(hand.at(CONFIG).read_text("utf-8"))["kis"]["keys"]
    except (OSError, ValueError, KeyError, TypeError):
        return 1
    return asked if isinstance(asked, int) and 1 <= asked <= MOST_PAIRS else 1
