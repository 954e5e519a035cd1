"""The least that any implementation costs: a call, a clock, a hash, a write to the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial

from jobsync._core.hashing import tokenizer
from jobsync._runtime.clock import now
from jobsync_bench.bench import Bench, Run
from jobsync_bench.figures import Figure, Side, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.timing import per_call, seconds

__all__ = ['SCENARIO', 'empty_call', 'read_clock']

_CALLS = 10_000
_BLOCK = b'x' * 4096


def empty_call(_: object) -> bool:
    """Do nothing: the cost of a call alone."""
    return False


def read_clock(_: object) -> float:
    """Read the clock that counts suspended time, as each check of a lease does."""
    return now()


def fsync(bench: Bench) -> Callable[[], float]:
    """Return a run that writes 4 kB to a file in the folder for temporary files, and waits for the disk."""
    folder = bench.stack.enter_context(tempfile.TemporaryDirectory(prefix='jobsync-bench-'))
    file = os.open(f'{folder}/file', os.O_WRONLY | os.O_CREAT)
    bench.stack.callback(os.close, file)

    def write() -> None:
        os.pwrite(file, _BLOCK, 0)
        os.fsync(file)

    return partial(seconds, write)


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    hash_of = tokenizer('xxh3', 10_000)
    ids = [f'task-{number}' for number in range(_CALLS)]
    runs: dict[str, Run] = {
        'empty call': partial(per_call, empty_call, ids),
        'clock': partial(per_call, read_clock, ids),
        'hash of an id': partial(per_call, hash_of, ids),
        'fsync of 4 kB': fsync(bench),
    }
    for name, run in runs.items():
        bench.record('time', name, [run() for _ in range(20 if bench.quick else 100)], who='the limit', side=Side.FLOOR)


SCENARIO = Scenario(
    name='floors',
    title='The limits of this machine',
    means="""
        The scale for all other numbers: no library can answer in less than an empty call, or make a write durable in less
        than one fsync.
    """,
    bounds="""
        The processor, the operating system and the disk.
    """,
    figures=(Figure('time', Unit.SECONDS, 'CPU time of one call; for the fsync, the elapsed time.'),),
    play=play,
    needs=Needs.NOTHING,
)
