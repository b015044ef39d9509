"""Which calls there are: read from strace's record of a run in which nothing happens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tests.sweep.story import HOWS, Moment

_CALL = re.compile(r"^(?P<tid>\d+)\s+(?P<call>\w+)\((?P<rest>.*)$")


def moments(record: tuple[int, str, Sequence[str]], sample: int = 0) -> list[Moment]:
    """What can happen at which call.

    Args:
        record: the writer's pid, what strace wrote, and where the paths begin that count.
        sample: about so many, evenly spread over calls and what happens there; 0: all.
    """
    pid, log, roots = record
    seen: Counter[str] = Counter()
    found = []
    for line in log.splitlines():
        match = _CALL.match(line)
        if match is None or int(match["tid"]) != pid:
            continue
        seen[match["call"]] += 1  # strace counts all of them, also those elsewhere
        if any(root in match["rest"] for root in roots):
            found += [Moment(match["call"], seen[match["call"]], how) for how in HOWS]
    found.sort(key=lambda moment: (moment.call, moment.how, moment.number))
    if not sample or sample >= len(found):
        return found
    return [found[number * len(found) // sample] for number in range(sample)]
