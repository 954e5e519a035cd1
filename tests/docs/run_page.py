"""Run the program of a page, which comes from the standard input, in a folder: ``python -m tests.docs.run_page PAGE FOLDER``."""

from __future__ import annotations

import os
import sys
import warnings


def main() -> None:
    """Run it as a program of its own, with each warning as an error."""
    page, folder = sys.argv[1:]
    os.chdir(folder)
    warnings.simplefilter('error')
    exec(compile(sys.stdin.read(), page, 'exec'), {'__name__': '__main__'})  # noqa: S102 - the pages are the project's own


if __name__ == '__main__':
    main()
