"""Installs Observer on this host, or takes it away again: `make install` and `make uninstall` call it with the host's Python.

It needs nothing but the standard library, no network, and root (or a DESTDIR). Exit codes: 0 done, 1 failed, 64 usage,
130 Ctrl-C. Each of them says what state things are in.

This file is read by any Python 3, so that one that is too old gets a sentence and no traceback.
"""

import sys

LEAST_PYTHON = (3, 11)


def main(argv: "list[str] | None" = None) -> int:
    """Install or uninstall, see command.py.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The exit code.
    """
    if sys.version_info[:2] < LEAST_PYTHON:
        least = "{}.{}".format(*LEAST_PYTHON)
        sys.stderr.write(f"make install: {sys.executable} is Python {sys.version.split()[0]}; Observer needs {least} or newer\n")
        sys.stderr.write(f"  name a newer one: make install PYTHON=/usr/bin/python{least}\n")
        return 1
    from command import run

    return run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
