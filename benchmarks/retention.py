"""Retention under live appending: how large the tables stay, and how long a single request of the purge takes.

    python -m benchmarks.retention                              # 100,000 claims on each store
    python -m benchmarks.retention --claims 1000000 --store etcd

Processes append claims, and audits of nineteen in twenty of them, at an even rate through several windows. The node of this
process leads, and keeps records for one window (``retention_days``). Reported are:

- *seconds*: how long appending took. A store that is too slow for the rate takes longer than the windows;
- *times the window*: how many claims and audits there were at most, once a window had passed, as a multiple of those appended
  within the last window. Old claims of incomplete work, which stay for ever, are not counted. What there is is what was appended
  and not deleted; in the end the history is read, and must have exactly that;
- *statement*: the longest single statement, script or request of the purge, in the process that purges, with all that it waited
  for: locks of others, the processor, the disk; without the garbage collections of this process. *its CPU* is the time that this
  thread was at work in a statement at most: on SQLite that is the statement itself, without the waits;
- *over 100 ms*: how many statements took longer than that, of how many;
- *in Redis*: how long a portion of the purge ran in the server at most, by its slow log, and how many took longer than 100 ms, of
  how many that took more than 5 ms. For so long all other clients wait. The rest of a statement is the wait for the processor
  and for the calls of others;
- *control*: the longest of ten snapshots a second that were read meanwhile, which share no more with the purge than the machine.
  Where this is as long as a statement, the machine was busy with other things;
- *call*: the longest call of ``Backend.purge``, which may make several of these;
- *lost*: incomplete tasks that were deleted.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import gc
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
import redis
from tests.support.stores import KINDS

from benchmarks.libraries.process import ROOT
from jobsync import CoordinationConfig, Job, plugins
from jobsync.backend import Backend, BackendOptions, HistoryKind, NodeRef, Purged, Registration
from jobsync.backends.redis.script import script
from jobsync.testing import FaultyBackend
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

STORES = ('sqlite', 'postgresql', 'redis', 'etcd')
REQUESTS = {
    'sqlite': ('jobsync.backends.sql.store.SqlTransaction', ('execute', 'execute_text', 'conclude')),
    'postgresql': ('jobsync.backends.sql.store.SqlTransaction', ('execute', 'execute_text', 'conclude')),
    'redis': ('jobsync.backends.redis.namespace.RedisNamespace', ('run',)),
    'etcd': ('jobsync.backends.etcd.connection.EtcdConnection', ('_call',)),
}
"""The methods, of a class and its subclasses, that send one request."""
STEP_SEC, EVERY = 0.5, 20
LONG_SEC, CONTROL_SEC, SLOW_SEC = 0.1, 0.1, 0.005
AT_ONCE = 200
"""How many records an append has. On Redis, whatever comes waits for the whole of it: for 1,000 of them 110 to 160 ms."""
DATE = dt.date(2026, 1, 1)
KEPT = (HistoryKind.CLAIM, HistoryKind.AUDIT)


@attrs.define
class Times:
    """The longest times, in seconds."""

    statement: float = 0.0
    cpu: float = 0.0
    call: float = 0.0
    control: float = 0.0
    statements: int = 0
    over: int = 0
    """How many statements took longer than ``LONG_SEC``."""
    deleted: int = 0
    under_way: threading.Lock = attrs.field(factory=threading.Lock)
    """Held by a call of the purge, which may outlast the job that has made it."""

    def add(self, statement: float, cpu: float) -> None:
        """Count a statement of the purge."""
        self.statements += 1
        self.over += statement > LONG_SEC
        self.statement, self.cpu = max(self.statement, statement), max(self.cpu, cpu)


class Measured(FaultyBackend):
    """A backend whose purges are measured."""

    def __init__(self, inner: Backend, times: Times, here: threading.local) -> None:
        super().__init__(inner)
        self._times, self._here = times, here

    def purge(self, kind: HistoryKind, *arguments: Any) -> Purged:
        """See ``Backend.purge``."""
        with self._times.under_way:
            self._here.purges, since = True, time.monotonic()
            try:
                found = self.inner.purge(kind, *arguments)
            finally:
                self._here.purges = False
                self._times.call = max(self._times.call, time.monotonic() - since)
            if kind in KEPT:
                self._times.deleted += found.deleted
            return found


class Collecting:
    """How long this process has collected garbage, whichever thread did; the others stand still meanwhile."""

    def __init__(self) -> None:
        self.sec, self._since = 0.0, 0.0

    def __call__(self, phase: str, _info: object) -> None:
        """Take the begin or the end of a collection, from ``gc``."""
        if phase == 'start':
            self._since = time.monotonic()
        else:
            self.sec += time.monotonic() - self._since


@contextmanager
def measured(kind: str, times: Times, here: threading.local) -> Iterator[None]:
    """Measure each request that a thread makes while it purges."""
    path, names = REQUESTS[kind]
    module, _, name = path.rpartition('.')
    base = getattr(__import__(module, fromlist=[name]), name)
    before: list[tuple[type, str, Callable[..., Any]]] = []
    collecting = Collecting()
    gc.callbacks.append(collecting)
    every = [base]
    for each in every:
        every.extend(each.__subclasses__())
        before += [(each, method, vars(each)[method]) for method in names if method in vars(each)]

    def timed(request: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(request)
        def run(*arguments: Any, **options: Any) -> Any:
            if not getattr(here, 'purges', False):
                return request(*arguments, **options)
            since, cpu_since, collected = time.monotonic(), time.thread_time(), collecting.sec
            try:
                return request(*arguments, **options)
            finally:
                collected = collecting.sec - collected
                times.add(time.monotonic() - since - collected, time.thread_time() - cpu_since - collected)

        return run

    for each, method, request in before:
        setattr(each, method, timed(request))
    try:
        yield
    finally:
        gc.callbacks.remove(collecting)
        for each, method, request in before:
            setattr(each, method, request)


@contextmanager
def slow_log(kind: str, url: str) -> Iterator[Callable[[], str]]:
    """Keep Redis' own log of the purge's portions; give what says how long they took."""
    if kind != 'redis':
        yield lambda: '-'
        return
    client = redis.Redis.from_url(url.partition('?')[0])
    client.config_set('slowlog-log-slower-than', round(SLOW_SEC * 1e6))
    client.config_set('slowlog-max-len', 1_000_000)
    digest = script('purge').digest.encode()

    def found() -> str:
        entries = [entry for entry in client.slowlog_get(1_000_000) if digest in entry['command']]
        took = [entry['duration'] / 1e6 for entry in entries]
        return f'{1000 * max(took, default=0.0):.0f} ({sum(each > LONG_SEC for each in took)} of {len(took):,})'

    with client:
        yield found


def append(url: str, writer: int, claims: int, seconds: float) -> None:
    """Append claims and audits at an even rate; after each step write the time, and how many claims and audits were added."""
    backend = plugins.connect(url, BackendOptions())
    ref = NodeRef(f'appends-{writer}', uuid.uuid4().hex)
    opened = backend.open(None, create=False)
    backend.register(Registration(ref, timeout_sec=3600, weight=0), opened.timeline, 0)
    steps, since, done = round(seconds / STEP_SEC), time.monotonic(), 0
    for step in range(steps):
        time.sleep(max(0.0, since + step * STEP_SEC - time.monotonic()))
        end = claims * (step + 1) // steps
        for first in range(done, end, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, end))
            complete = [number for number in numbers if number % EVERY]
            backend.append_claims(ref, [item(writer, number) for number in numbers], DATE)
            backend.append_audits(ref.name, [item(writer, number) for number in complete], DATE)
            print(json.dumps([time.monotonic(), len(numbers), len(complete)]), flush=True)
        done = end
    backend.deregister(ref)
    backend.close()


def item(writer: int, number: int) -> str:
    return f'item-{writer}-{number:09}'


@attrs.define
class Appended:
    """What the processes have appended so far."""

    steps: list[tuple[float, int, int]] = attrs.field(factory=list)
    """The time of each, and how many claims and audits."""
    claims: int = 0
    audits: int = 0

    def follow(self, process: subprocess.Popen[str], guard: threading.Lock) -> None:
        """Read what a process has appended, until it ends."""
        assert process.stdout is not None
        for line in process.stdout:
            moment, claims, audits = json.loads(line)
            with guard:
                self.steps.append((moment, claims, audits))
                self.claims += claims
                self.audits += audits

    def times_the_window(self, now: float, window_sec: float, deleted: int) -> float:
        """Return how many claims and audits there are, as a multiple of those appended within the last window."""
        within = [(claims, audits) for moment, claims, audits in self.steps if moment > now - window_sec]
        claims, audits = sum(step[0] for step in within), sum(step[1] for step in within)
        old_incomplete = (self.claims - claims) - (self.audits - audits)
        return (self.claims + self.audits - deleted - old_incomplete) / max(1, claims + audits)


@contextmanager
def writers(url: str, count: int, claims: int, seconds: float) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the processes that append; end them with the block."""
    command = [sys.executable, '-m', 'benchmarks.retention', '--append', url]
    processes = list[subprocess.Popen[str]]()
    try:
        for writer in range(count):
            part = [str(writer), str(claims // count), str(seconds)]
            processes.append(subprocess.Popen([*command, *part], cwd=ROOT, stdout=subprocess.PIPE, text=True))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def play(kind: str, options: argparse.Namespace) -> list[str]:
    """Append through so many windows on one store; return what was found as the cells of a row."""
    times, here, ratio = Times(), threading.local(), 0.0
    window_sec, appended, guard = options.window_sec, Appended(), threading.Lock()
    with KINDS[kind].fresh() as url, slow_log(kind, url) as in_server, measured(kind, times, here):
        backend = plugins.connect(url, BackendOptions())
        leading = Measured(backend, times, here)
        config = CoordinationConfig(backend=leading, minimum_nodes=1, retention_days=window_sec / 86_400)
        with Job('leads', coordination_config=config):
            seconds = options.windows * window_sec
            with writers(url, options.writers, options.claims, seconds) as processes:
                since = time.monotonic()
                readers = [threading.Thread(target=appended.follow, args=(process, guard)) for process in processes]
                for reader in readers:
                    reader.start()
                shown = since
                while any(reader.is_alive() for reader in readers):
                    time.sleep(CONTROL_SEC)
                    begun = time.monotonic()
                    backend.snapshot()
                    times.control = max(times.control, time.monotonic() - begun)
                    with guard:
                        now = time.monotonic()
                        if not appended.steps or now <= appended.steps[0][0] + window_sec + STEP_SEC:
                            continue
                        ratio = max(ratio, appended.times_the_window(now, window_sec, times.deleted))
                    if now >= shown + window_sec / 4:
                        shown = now
                        say(
                            f'{kind}: {appended.claims:,} claims, {times.deleted:,} deleted, at most {ratio:.2f} times the window'
                        )
                took = time.monotonic() - since
                if any(process.wait() for process in processes):
                    raise RuntimeError(f'{kind}: appending has failed')
        times.under_way.acquire()  # what is deleted is counted, and no more is
        kept = [{record.item for record in backend.history(each, date=DATE)} for each in KEPT]  # type: ignore[union-attr]
        served = in_server()
        backend.close()
    if sum(map(len, kept)) != appended.claims + appended.audits - times.deleted:
        raise RuntimeError(f'{kind}: {sum(map(len, kept)):,} records are left, which is not what was appended and not deleted')
    lost = sum(
        item(writer, number) not in kept[0]
        for writer in range(options.writers)
        for number in range(0, options.claims // options.writers, EVERY)
    )
    milliseconds = [f'{1000 * each:.0f}' for each in (times.statement, times.cpu, times.control, times.call)]
    milliseconds.insert(2, served)
    over = f'{times.over:,} of {times.statements:,}'
    return [kind, f'{appended.claims:,}', f'{took:.0f}', f'{ratio:.2f}', over, *milliseconds, f'{times.deleted:,}', str(lost)]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=STORES, action='append', help='this one only; may be given again')
    parser.add_argument('--claims', type=int, default=100_000, help='on each store')
    parser.add_argument('--windows', type=int, default=5, help='how many windows the claims are spread over')
    parser.add_argument('--window-sec', type=float, default=40.0, help='how long records are kept')
    parser.add_argument('--writers', type=int, default=2, help='how many processes append')
    parser.add_argument('--append', nargs=4, metavar=('URL', 'WRITER', 'CLAIMS', 'SECONDS'), help='be a process that appends')
    options = parser.parse_args(arguments)
    if options.append:
        url, writer, claims, seconds = options.append
        append(url, int(writer), int(claims), float(seconds))
        return
    stores = options.store or STORES
    rows = [play(kind, options) for kind in stores]
    columns = ['store', 'claims', 'seconds', 'times the window', 'over 100 ms', 'statement ms', 'its CPU ms', 'in Redis ms']
    columns += ['control ms', 'call ms', 'deleted', 'lost']
    print(Machine.here(), table(columns, rows), sep='\n\n')


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
