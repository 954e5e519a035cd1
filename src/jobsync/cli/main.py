"""The command ``jobsync``.

click and rich come with the extra ``cli``. No other part of the library needs them, so this module reports their absence.
"""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ['main']

_NEEDED = ('click', 'rich')


def main() -> None:
    """Run the command line. This is the entry point of the script ``jobsync``."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"The command line needs {' and '.join(missing)}: pip install 'jobsync[cli]'")
    try:
        from jobsync.cli.commands import cli
    except KeyboardInterrupt:  # to import it takes long enough for a person who has changed his mind
        sys.stderr.write('\nAborted!\n')
        sys.exit(128 + signal.SIGINT)

    if isinstance(out := sys.stdout, io.TextIOWrapper):
        file = io.BufferedWriter(_Output(out.fileno(), 'w', closefd=False))
        # Names may have characters that the terminal's encoding has not.
        sys.stdout = io.TextIOWrapper(file, out.encoding, 'backslashreplace', line_buffering=out.line_buffering)
    try:
        try:
            cli()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _Output.is_broken = True
    except OSError as error:  # a full disk under the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of the output cannot be written at the end either
        sys.exit(f'Error: {error}')
    finally:
        if _Output.is_broken:
            # As other programs end whose reader has gone. Python ignores the signal until here, since it would also end a program
            # whose connection to the store is closed.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)


class _Output(io.FileIO):
    """Standard output that remembers it if its reader has gone: click and rich end with status 1 then, as after an error."""

    is_broken = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the bytes, and return how many."""
        try:
            return super().write(data)
        except BrokenPipeError:
            _Output.is_broken = True
            raise


if __name__ == '__main__':
    main()
