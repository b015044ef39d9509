"""`make sweep`: a writer is killed, or fails, at each of its system calls on archive and fallback, one run a call.

`python -m tests.sweep --only write:17:EIO` repeats one; `--sample 60` takes so many, evenly spread and always the same.
Needs root (two small tmpfs a runner) and strace. The exit code is 1 when a run went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.sweep.calls import moments
from tests.sweep.runners import Outcome, Runners
from tests.sweep.story import Moment

SAID_EVERY_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="CALL:NUMBER:HOW", help="this run alone; may be repeated")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="about N runs, evenly spread")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default %(default)s)")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as at_the_end:
        place = Path(at_the_end.enter_context(tempfile.TemporaryDirectory(prefix="sweep-")))
        runners = at_the_end.enter_context(contextlib.closing(Runners(place, options.jobs)))
        wanted = [Moment.of(text) for text in options.only] or moments(runners.record(), options.sample)
        good = sweep(runners, wanted)
        if not options.only and not options.sample:
            print(runners.lie(10.0), runners.lie(10.0, "none"), sep="\n", flush=True)
        return 0 if good else 1


def sweep(runners: Runners, wanted: Sequence[Moment]) -> bool:
    """Do all ``wanted`` runs, say how far it is, and what went wrong; returns whether nothing did."""
    began = said_at = time.monotonic()
    wrong: list[Outcome] = []
    missed = 0
    for done, outcome in enumerate(runners.run(wanted), 1):
        missed += outcome.missed
        if outcome.error:
            wrong.append(outcome)
            print(f"\n{outcome.moment}: {outcome.error}\nrepeat it with: python -m tests.sweep --only {outcome.moment}", flush=True)
        now = time.monotonic()
        if now >= said_at + SAID_EVERY_S:
            said_at, rate = now, done / (now - began)
            left = (len(wanted) - done) / rate
            print(f"{done}/{len(wanted)} runs, {rate:.1f}/s, {left:.0f} s left, {len(wrong)} wrong", flush=True)
    kinds = Counter(moment.call for moment in wanted)
    print(
        f"{len(wanted)} runs in {time.monotonic() - began:.0f} s, {len(wrong)} wrong, {missed} came to their end before that call: "
        + ", ".join(f"{call} {count}" for call, count in sorted(kinds.items())),
        flush=True,
    )
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
