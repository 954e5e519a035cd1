"""``python -m tests.scheduled --seeds 0:2000``: the code around the core under a deterministic scheduler.

Each seed is a small cluster of real ``Job`` objects on one store in memory. Its threads make one step at a time, on a virtual
clock, and the seed decides who makes the next step, and what fails. ``docs/contribute/testing.md`` explains it.
"""

import os
import sys

from tests.scheduled import steps

if __name__ == '__main__':
    if os.environ.get('PYTHONHASHSEED') != '0':  # the order of a set would differ from run to run
        command = [sys.executable, '-m', 'tests.scheduled', *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, 'PYTHONHASHSEED': '0'})  # noqa: S606 - this very program
    steps.install()
    from tests.scheduled.cli import main

    sys.exit(main())
