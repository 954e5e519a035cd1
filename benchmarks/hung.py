"""Workers whose code hangs (``progress_timeout_sec``): how soon their share is others', false alarms, and the cost of the mark.

    python -m benchmarks.hung
    python -m benchmarks.hung --store redis --rounds 20 --calm 600

Three processes share all tokens. In each round one of them begins a task and hangs in it. *handed over* is the longest time, in
all rounds, from its last sign of progress to the moment at which the two others own everything but the token of that task, which
the hand-over waits for; *back* is the longest from its next sign to even shares. Then all three work for ``--calm`` seconds on
tasks ten times as long as the timeout, which report twice in each timeout: *false alarms* counts workers that took themselves for
hung or lost a token. At the end the CPU time of ``can_claim_task`` is compared with that of a copy without the mark, in turns.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import select
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import attrs
from tests.support.stores import KINDS

import jobsync.job
from benchmarks.items import wait_for
from benchmarks.libraries.process import ROOT
from jobsync import CoordinationConfig, Job
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine
from jobsync_bench.timing import per_call

__all__ = ['main']

STORES = ('sqlite', 'postgresql', 'redis', 'etcd')
TOKENS, NAMES = 300, ('w1', 'w2', 'w3')
_PATIENCE_SEC, _SAMPLE_SEC, _STEP_SEC = 120.0, 0.02, 0.1
_STDIN = 0
_MARK = 'lease.has_progressed = True'


# --- a worker -----------------------------------------------------------------------------------------------------------------


def work(url: str, name: str, timeout_sec: float) -> None:
    """Do what the lines of the input say, and write what changes: the number of tokens, and whether this node has stalled."""
    config = CoordinationConfig(backend=url, minimum_nodes=1, total_tokens=TOKENS, progress_timeout_sec=timeout_sec)
    with Job(name, coordination_config=config) as job:
        threading.Thread(target=_sample, args=(job,), daemon=True).start()
        while not job.is_leaving:
            match _command(_STEP_SEC):
                case 'hang':
                    task = next(each for each in map(str, range(10**6)) if job.can_claim_task(each))
                    with job.task(task):
                        _say(hung=time.monotonic())
                        _command(_PATIENCE_SEC)
                    _say(back=time.monotonic())
                case 'calm':
                    for _ in job.claim(str(number) for number in range(10**6)):
                        end = time.monotonic() + 10 * timeout_sec
                        while time.monotonic() < end and not _command(timeout_sec / 2):
                            job.keep_going()
                        if time.monotonic() < end:
                            break
                case 'leave':
                    return
                case _:
                    job.keep_going()


def _sample(job: Job) -> None:
    before = None
    while not job.is_leaving:
        seen = len(job.my_tokens), job.get_coordination_status()['is_stalled']
        if seen != before:
            _say(at=time.monotonic(), tokens=seen[0], stalled=seen[1])
            before = seen
        time.sleep(_SAMPLE_SEC)


def _command(seconds: float) -> str:
    """Return the next line of the input, or nothing after some seconds."""
    line = bytearray()
    if select.select([_STDIN], [], [], seconds)[0]:
        while (byte := os.read(_STDIN, 1)) not in (b'', b'\n'):
            line += byte
    return line.decode()


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + '\n')
    sys.stdout.flush()


# --- the parent ---------------------------------------------------------------------------------------------------------------


@attrs.define
class Worker:
    """A process, and what it has written."""

    process: subprocess.Popen[str]
    samples: list[dict[str, Any]] = attrs.field(factory=list)
    moments: SimpleQueue[dict[str, float]] = attrs.field(factory=SimpleQueue)
    reader: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    @classmethod
    def start(cls, url: str, name: str, timeout_sec: float) -> Worker:
        """Start a process."""
        command = [sys.executable, '-m', 'benchmarks.hung', '--worker', url, name, str(timeout_sec)]
        return cls(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def end(self) -> None:
        """End the process, if it goes on."""
        self.process.kill()
        self.reader.join()
        with self.process:  # closes the pipes, and waits
            pass

    def _read(self) -> None:
        for line in self.process.stdout or ():
            fields = json.loads(line)
            if 'at' in fields:
                self.samples.append(fields)
            else:
                self.moments.put(fields)

    def send(self, command: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + '\n')
        self.process.stdin.flush()

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return self.samples[-1]['tokens'] if self.samples else 0


@contextmanager
def workers(url: str, timeout_sec: float) -> Iterator[list[Worker]]:
    """Run three workers that share all tokens."""
    made = [Worker.start(url, name, timeout_sec) for name in NAMES]
    try:
        settle(made)
        yield made
        for worker in made:
            worker.send('leave')
        for worker in made:
            worker.process.wait(_PATIENCE_SEC)
    finally:
        for worker in made:
            worker.end()


def settle(made: Sequence[Worker]) -> None:
    """Wait until all have equal shares."""
    wait_for(lambda: all(worker.tokens == TOKENS // len(made) for worker in made), 'shares are not even')


def hang(victim: Worker, others: Sequence[Worker]) -> tuple[float, float]:
    """Have a worker hang; return how long it took until others had its share, and until it had it back."""
    victim.send('hang')
    hung = victim.moments.get(timeout=_PATIENCE_SEC)['hung']
    wait_for(lambda: sum(worker.tokens for worker in others) >= TOKENS - 1, 'the share is not handed over')
    handed_over = max(worker.samples[-1]['at'] for worker in others) - hung
    victim.send('go')
    back = victim.moments.get(timeout=_PATIENCE_SEC)['back']
    settle([victim, *others])
    return handed_over, max(worker.samples[-1]['at'] for worker in (victim, *others)) - back


def stay_calm(made: Sequence[Worker], seconds: float) -> int:
    """Have all work on long tasks that report; return how many took themselves for hung, or lost a token."""
    before = [len(worker.samples) for worker in made]
    for worker in made:
        worker.send('calm')
    time.sleep(seconds)
    alarms = sum(len(worker.samples) != count for worker, count in zip(made, before, strict=True))
    for worker in made:
        worker.send('end')
    return alarms


# --- the cost -----------------------------------------------------------------------------------------------------------------


def without_mark() -> Callable[[Job, object], bool]:
    """Return ``can_claim_task`` without the mark."""
    source = textwrap.dedent(inspect.getsource(Job.can_claim_task))
    if _MARK not in source:
        raise RuntimeError(f'{_MARK!r} is not in can_claim_task')
    found: dict[str, Any] = {}
    exec(compile(source.replace(_MARK, 'pass'), 'without_mark', 'exec'), vars(jobsync.job), found)  # noqa: S102 - this package's own source, without one line
    function: Callable[[Job, object], bool] = found['can_claim_task']
    return function


def cost(turns: int) -> float:
    """Return the CPU time of ``can_claim_task`` with the mark, divided by that without it: the median of all turns."""
    config = CoordinationConfig(backend='memory://of-the-mark', minimum_nodes=1, progress_timeout_sec=600)
    with Job('one', coordination_config=config) as job:
        ids = [f'task-{number}' for number in range(1_000)]
        ways = [partial(Job.can_claim_task, job), partial(without_mark(), job)]
        quotients = []
        for turn in range(turns):
            times = {way: per_call(way, ids) for way in (ways if turn % 2 else ways[::-1])}
            quotients.append(times[ways[0]] / times[ways[1]])
    return statistics.median(quotients)


def main(arguments: Sequence[str]) -> None:
    """Print what was measured; status 1 if a share was handed over late, or an alarm was false."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=STORES, action='append', help='this one only; may be given again')
    parser.add_argument('--rounds', type=int, default=10, help='on each store')
    parser.add_argument('--timeout', type=float, default=5.0, help='progress_timeout_sec')
    parser.add_argument('--calm', type=float, default=300.0, help='seconds of long tasks on each store')
    parser.add_argument('--turns', type=int, default=1_000, help='of the comparison of CPU time')
    parser.add_argument('--worker', nargs=3, metavar=('URL', 'NAME', 'TIMEOUT'), help='be a worker')
    options = parser.parse_args(arguments)
    if options.worker:
        url, name, timeout_sec = options.worker
        work(url, name, float(timeout_sec))
        return
    rows, is_bad = [], False
    for kind in options.store or STORES:
        with KINDS[kind].fresh() as url, workers(url, options.timeout) as made:
            times = []
            for number in range(options.rounds):
                victim = made[number % len(made)]
                times.append(hang(victim, [worker for worker in made if worker is not victim]))
                print(f'{kind}: {times[-1][0]:.2f} s, back {times[-1][1]:.2f} s', file=sys.stderr, flush=True)
            alarms = stay_calm(made, options.calm) if options.calm else 0
        handed_over, back = (max(each) for each in zip(*times, strict=True))
        is_bad = is_bad or alarms > 0 or handed_over > options.timeout + 2
        rows.append([kind, f'{options.timeout:g} s', f'{options.rounds}', f'{handed_over:.2f} s', f'{back:.2f} s', f'{alarms}'])
    columns = ['store', 'progress_timeout_sec', 'rounds', 'handed over', 'back', f'false alarms in {options.calm:g} s']
    print(
        Machine.here(),
        table(columns, rows),
        f'can_claim_task, by its copy without the mark: {cost(options.turns):.3f}x',
        sep='\n\n',
    )
    sys.exit(is_bad)


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
