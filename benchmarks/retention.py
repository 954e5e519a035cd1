"""Retention under live appending: how large the tables stay, and how long a single request of the purge takes.

    python -m benchmarks.retention                              # 100,000 claims on each store
    python -m benchmarks.retention --claims 1000000 --store etcd

One process appends claims, and audits of nineteen in twenty of them, at an even rate through several windows. The node of this
process leads, and keeps records for one window (``retention_days``). Reported are:

- *times the window*: how many claims and audits there were at most, once a window had passed, as a multiple of those appended
  within the last window. Old claims of incomplete work, which stay for ever, are not counted;
- *statement*: the longest single statement, script or request of the purge, in the process that purges, with all that it waited
  for: locks of others, the processor, the disk. *its CPU* is the time that this thread was at work in a statement at most: on
  SQLite that is the statement itself, without the waits;
- *call*: the longest call of ``Backend.purge``, which may make several of these;
- *lost*: incomplete tasks that were deleted.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
from tests.support.stores import KINDS

from benchmarks.libraries.process import ROOT
from jobsync import CoordinationConfig, Job, plugins
from jobsync.backend import Backend, BackendOptions, HistoryKind, NodeRef, Purged, Registration
from jobsync.testing import FaultyBackend
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

STORES = ('sqlite', 'postgresql', 'redis', 'etcd')
REQUESTS = {
    'sqlite': ('jobsync.backends.sql.store.SqlTransaction', ('execute', 'execute_text', 'conclude')),
    'postgresql': ('jobsync.backends.sql.store.SqlTransaction', ('execute', 'execute_text', 'conclude')),
    'redis': ('jobsync.backends.redis.namespace.RedisNamespace', ('run',)),
    'etcd': ('jobsync.backends.etcd.connection.Connection', ('_call',)),
}
"""The methods, of a class and its subclasses, that send one request."""
STEP_SEC, EVERY = 0.5, 20
DATE = dt.date(2026, 1, 1)
KEPT = (HistoryKind.CLAIM, HistoryKind.AUDIT)


@attrs.define
class Times:
    """The longest times, in seconds."""

    statement: float = 0.0
    cpu: float = 0.0
    call: float = 0.0
    deleted: int = 0


class Measured(FaultyBackend):
    """A backend whose purges are measured."""

    def __init__(self, inner: Backend, times: Times, here: threading.local) -> None:
        super().__init__(inner)
        self._times, self._here = times, here

    def purge(self, *arguments: Any) -> Purged:
        """See ``Backend.purge``."""
        self._here.purges, since = True, time.monotonic()
        try:
            found = self.inner.purge(*arguments)
        finally:
            self._here.purges = False
            self._times.call = max(self._times.call, time.monotonic() - since)
        self._times.deleted += found.deleted
        return found


@contextmanager
def measured(kind: str, times: Times, here: threading.local) -> Iterator[None]:
    """Measure each request that a thread makes while it purges."""
    path, names = REQUESTS[kind]
    module, _, name = path.rpartition('.')
    base = getattr(__import__(module, fromlist=[name]), name)
    before: list[tuple[type, str, Callable[..., Any]]] = []
    every = [base]
    for each in every:
        every.extend(each.__subclasses__())
        before += [(each, method, vars(each)[method]) for method in names if method in vars(each)]

    def timed(request: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(request)
        def run(*arguments: Any, **options: Any) -> Any:
            if not getattr(here, 'purges', False):
                return request(*arguments, **options)
            since, cpu_since = time.monotonic(), time.thread_time()
            try:
                return request(*arguments, **options)
            finally:
                times.statement = max(times.statement, time.monotonic() - since)
                times.cpu = max(times.cpu, time.thread_time() - cpu_since)

        return run

    for each, method, request in before:
        setattr(each, method, timed(request))
    try:
        yield
    finally:
        for each, method, request in before:
            setattr(each, method, request)


def append(url: str, claims: int, seconds: float) -> None:
    """Append claims and audits at an even rate, and write how many claims there are after each step."""
    backend = plugins.connect(url, BackendOptions())
    ref = NodeRef('appends', uuid.uuid4().hex)
    opened = backend.open(None, create=False)
    backend.register(Registration(ref, timeout_sec=3600, weight=0), opened.timeline, 0)
    steps, since, done = round(seconds / STEP_SEC), time.monotonic(), 0
    for step in range(steps):
        time.sleep(max(0.0, since + step * STEP_SEC - time.monotonic()))
        end = claims * (step + 1) // steps
        for first in range(done, end, 1000):
            items = [f'item-{number:09}' for number in range(first, min(first + 1000, end))]
            backend.append_claims(ref, items, DATE)
            backend.append_audits(ref.name, [item for item in items if int(item[5:]) % EVERY], DATE)
        done = end
        print(json.dumps([time.monotonic(), done]), flush=True)
    backend.deregister(ref)
    backend.close()


def play(kind: str, claims: int, windows: int, window_sec: float) -> list[str]:
    """Append through so many windows on one store; return what was found as the cells of a row."""
    times, here, ratio = Times(), threading.local(), 0.0
    with KINDS[kind].fresh() as url, measured(kind, times, here):
        backend = plugins.connect(url, BackendOptions())
        leading = Measured(backend, times, here)
        config = CoordinationConfig(backend=leading, minimum_nodes=1, retention_days=window_sec / 86_400)
        with Job('leads', coordination_config=config):
            command = [sys.executable, '-m', 'benchmarks.retention', '--append', url, str(claims), str(windows * window_sec)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            try:
                done = list[tuple[float, int]]()
                reader = threading.Thread(target=follow, args=(process, done))
                reader.start()
                while reader.is_alive():
                    reader.join(window_sec / 4)
                    if done and done[-1][0] > done[0][0] + window_sec + STEP_SEC:
                        ratio = max(ratio, times_the_window(backend, done, window_sec))
                        claimed, deleted = done[-1][1], times.deleted
                        say(f'{kind}: {claimed:,} claims, {deleted:,} deleted, at most {ratio:.2f} times the window')
                if process.wait():
                    raise RuntimeError(f'{kind}: appending has failed')
            finally:
                process.kill()
                process.wait()
            kept = {record.item for record in backend.history(HistoryKind.CLAIM, date=DATE)}  # type: ignore[union-attr]
        lost = sum(f'item-{number:09}' not in kept for number in range(0, claims, EVERY))
        backend.close()
    found = (ratio, 1000 * times.statement, 1000 * times.cpu, 1000 * times.call)
    return [kind, f'{claims:,}', f'{found[0]:.2f}', *(f'{number:.0f}' for number in found[1:]), f'{times.deleted:,}', str(lost)]


def follow(process: subprocess.Popen[str], done: list[tuple[float, int]]) -> None:
    """Read what a process that appends has done so far."""
    assert process.stdout is not None
    for line in process.stdout:
        moment, count = json.loads(line)
        done.append((moment, count))


def times_the_window(backend: Backend, done: Sequence[tuple[float, int]], window_sec: float) -> float:
    """Return how many claims and audits there are, as a multiple of those appended within the last window."""
    now = time.monotonic()
    claims, audits = (len(backend.history(kind, date=DATE)) for kind in KEPT)
    before = max((count for moment, count in list(done) if moment <= now - window_sec), default=0)
    old_incomplete = (before + EVERY - 1) // EVERY
    return (claims - old_incomplete + audits) / ((done[-1][1] - before) * (2 - 1 / EVERY))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=STORES, action='append', help='this one only; may be given again')
    parser.add_argument('--claims', type=int, default=100_000, help='on each store')
    parser.add_argument('--windows', type=int, default=5, help='how many windows the claims are spread over')
    parser.add_argument('--window-sec', type=float, default=40.0, help='how long records are kept')
    parser.add_argument('--append', nargs=3, metavar=('URL', 'CLAIMS', 'SECONDS'), help='be the process that appends')
    options = parser.parse_args(arguments)
    if options.append:
        url, claims, seconds = options.append
        append(url, int(claims), float(seconds))
        return
    stores = options.store or STORES
    rows = [play(kind, options.claims, options.windows, options.window_sec) for kind in stores]
    columns = ['store', 'claims', 'times the window', 'statement ms', 'its CPU ms', 'call ms', 'deleted', 'lost']
    print(Machine.here(), table(columns, rows), sep='\n\n')


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
