"""The command ``jobsync``.

click and rich come with the extra ``cli``. Nothing else in the package needs them, so their absence is told here, in words.
"""

from __future__ import annotations

import importlib.util
import sys

__all__ = ['main']

_NEEDED = ('click', 'rich')


def main() -> None:
    """Run the command line; the way in that ``pyproject.toml`` names."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"The command line needs {' and '.join(missing)}: pip install 'jobsync[cli]'")
    from jobsync.cli.commands import cli

    cli()


if __name__ == '__main__':
    main()
