"""`procession …` and `python -m procession …`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line of this process; gives its exit code."""
    from procession._cli import run_cli

    return run_cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
