"""The manifest: the set of seals. Rebuilt from the files alone it must equal the recorded one, field by field.

    files ──read──▶ facts ──rebuild──▶ Seal ─┐
    system records ─────────read_seals──▶ Seal ┴─ differences

Only how a file came to be (recovered, suspect, merged) does not show in it: those marks are the record's own.
"""

from __future__ import annotations

from observer.archive.findings import FileFacts
from observer.archive.sealing import merge_ranges
from observer.archive.seals import Seal


def rebuild(facts: FileFacts, seal: Seal) -> Seal:
    """The seal that ``facts``, of the whole file, say; its marks are those of the recorded ``seal``."""
    return seal._replace(
        path=facts.path,
        lines=facts.lines,
        bytes=facts.bytes + facts.torn,
        sha256=facts.sha256,
        first_recv=facts.first_recv,
        last_recv=facts.last_recv,
        ranges=merge_ranges(facts.ranges),
    )


def differences(rebuilt: Seal, recorded: Seal) -> list[str]:
    """What ``rebuilt`` says otherwise than ``recorded``, one phrase each; nothing when they are equal."""
    wrong = [
        f"{what} {found:,} instead of {sealed:,}"
        for what, found, sealed in (("bytes", rebuilt.bytes, recorded.bytes), ("lines", rebuilt.lines, recorded.lines))
        if found != sealed
    ]
    if rebuilt.sha256 != recorded.sha256:
        wrong.append(f"sha256 {rebuilt.sha256[:12]}… instead of {recorded.sha256[:12]}…")
    if wrong:
        return wrong  # what follows from other bytes says nothing more
    if rebuilt.ranges != recorded.ranges:
        wrong.append("other sequences than the seal names")
    wrong += [
        f"{what} {found} instead of {sealed}"
        for what, found, sealed in (
            ("first_recv", rebuilt.first_recv, recorded.first_recv),
            ("last_recv", rebuilt.last_recv, recorded.last_recv),
        )
        if found != sealed
    ]
    return wrong
