"""The code around the core under a deterministic scheduler; and the scheduler, put to the test with mends taken out.

The scheduler replaces threads and clocks in all of jobsync, so each test runs it in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest
from tests.scheduled.virtual import VirtualHost, VirtualProcess

ROOT = Path(__file__).parents[2]

SHOWN_BY: dict[str, tuple[int, str] | tuple[int, str, str] | tuple[int, str, str, str]] = {
    'announcements_end_with_their_run': (73, 'R3'),
    'clock_read_before_the_grant': (6, 'P1', '--aim=Lease.begin'),
    'lanes_that_log': (12, ''),  # a hang, a token without an owner, or a node that cannot enter
    'lanes_that_wait_for_lost_calls': (10, ''),  # a token without an owner
    'tasks_of_an_evicted_run_are_not_held': (53, 'R3'),
    'ticks_begin_without_a_fence': (13, 'P1', '--aim=TurnBase.__init__', '--threads'),
    'ticks_begin_without_their_place': (7, 'P1', '--aim=TickRecord.begin', '--threads'),
    'ticks_complete_without_a_claim': (2, 'every', '--aim=TickRecord.complete'),
}
"""For each mend a seed that shows the lack of it today, the promise that breaks, and options.

Another statement in the code around the core moves them all. Then ``--without`` finds others, one of two hundred seeds at worst.
"""


def scheduled(*arguments: str, seed_of_hashes: str = '0') -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, '-m', 'tests.scheduled', '--processes', '1', *arguments],
        env={**os.environ, 'PYTHONHASHSEED': seed_of_hashes},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_every_promise_holds() -> None:
    """One owner, one worker at a task, nothing of a batch twice or left out, and no thread that hangs."""
    done = scheduled('--seeds', '0:8')
    assert done.returncode == 0, done.stdout + done.stderr
    assert '8 seeds, 0 with findings' in done.stdout


def test_a_seed_replays_exactly() -> None:
    """A seed determines each step, in another process too."""
    first, again = (scheduled('--seeds', '3', '--trace', '3000', seed_of_hashes=each).stdout for each in ('0', '1'))
    lines = first.splitlines()
    assert len(lines) > 300
    assert again.splitlines()[:-1] == lines[:-1]


TWICE = """
from tests.scheduled import steps
steps.install()
from tests.scheduled.run import run
assert run(3).trace == run(3).trace
"""


def test_a_seed_replays_after_others() -> None:
    """What one run has worked out makes no difference to the next in its process."""
    subprocess.run([sys.executable, '-c', TWICE], env={**os.environ, 'PYTHONHASHSEED': '0'}, cwd=ROOT, check=True, timeout=600)


def test_a_hold_that_ends_early_ends_for_every_thread() -> None:
    """Those whose turn came during the hold go on at its end, and so does one that waits beyond it."""
    host = VirtualHost(Random(1))
    held, operator = VirtualProcess(host, 'held'), VirtualProcess(host, 'operator')
    ends: list[float] = []

    def wait(seconds: float) -> None:
        host.sleep(seconds)
        ends.append(host.now)

    def hold_for_a_second() -> None:
        host.sleep(1)
        held.hold(9)
        host.sleep(1)
        held.let_go()

    # t=1    the process is held for nine seconds
    # t=1.5  the turn of one thread comes: put off until t=10
    # t=2    the hold ends
    # t=2.5  the turn of the other thread comes
    for seconds in (1.5, 2.5):
        held.start(partial(wait, seconds))
    operator.start(hold_for_a_second)
    host.run(20.0)
    assert ends == [pytest.approx(2.0, abs=0.01), pytest.approx(2.5, abs=0.01)]


@pytest.mark.parametrize('mend', SHOWN_BY)
def test_a_mend_that_is_taken_out_is_missed(mend: str) -> None:
    """Without the mend a promise breaks, and the finding says which; if its seed shows nothing any more, others are tried."""
    seed, promise, *options = SHOWN_BY[mend]
    done = scheduled('--seeds', f'{seed}:{seed + 100}', '--without', mend, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f'\n  {promise}' in done.stdout
