"""A worker that takes a task, and writes its result when it is told to: ``python -m tests.fencing.late_worker STORE NAME PLACE``.

It says what it does: that it is at work, under which fence, and whether what it wrote then was accepted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.fencing.places import place
from tests.job.worker import say
from tests.support.timings import FAST

from jobsync import CoordinationConfig, Job, StaleFence

TASK = 'x'


def main() -> None:
    """Take the task, wait for the file that is the word to write, write."""
    store, name, where, *settings = sys.argv[1:]
    fields = {key: json.loads(value) for key, value in (setting.split('=', 1) for setting in settings)}
    word = Path(fields.pop('word'))
    there = place(where)
    with Job(name, coordination_config=CoordinationConfig(backend=store, **(FAST | fields))) as job:
        while not job.can_claim_task(TASK) or not job.add_task(TASK):
            time.sleep(0.01)
        fence = job.fence(TASK)
        say(state='at work', fence=fence)
        while not word.exists():
            time.sleep(0.01)
        try:
            there.write(TASK, f'by {name}', fence)
        except StaleFence as error:
            say(state='refused', error=str(error))
        else:
            say(state='accepted')
        there.close()


if __name__ == '__main__':
    main()
