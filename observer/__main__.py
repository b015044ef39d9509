"""`python -m observer` and the `observer` command."""

from __future__ import annotations

import sys

from observer.cli import main

if __name__ == "__main__":
    sys.exit(main())
