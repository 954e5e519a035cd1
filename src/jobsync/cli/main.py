"""The command ``jobsync``.

click and rich come with the extra ``cli``. No other part of the library needs them, so this module reports their absence.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys

__all__ = ['main']

_NEEDED = ('click', 'rich')


def main() -> None:
    """Run the command line. This is the entry point of the script ``jobsync``."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"The command line needs {' and '.join(missing)}: pip install 'jobsync[cli]'")
    from jobsync.cli.commands import cli

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names may have characters that the terminal's encoding has not
    try:
        cli()
    except OSError as error:  # a full disk under the output; click ends by itself where a pipe is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of the output cannot be written at the end either
        sys.exit(f'Error: {error}')


if __name__ == '__main__':
    main()
