"""Functions on a schedule while their owners are killed and stopped: whether a tick is run by two, run again, or missed.

    python -m benchmarks.ticks                            # ten processes, a thousand ticks, on PostgreSQL
    python -m benchmarks.ticks --schedule-error 120       # and the clocks that the schedules read are wrong by up to two minutes

Every few seconds a worker that owns a schedule is killed (SIGKILL), stopped for longer than its lease (SIGSTOP), or ended in
good order, and replaced. The wall clock of each worker is wrong by up to two minutes. Half of the functions have the misfire rule
'run', half have 'skip'. The workers' own logs and the records in the store are the evidence:

- *at once*: two workers found one tick theirs at one time (see ``jobsync.testing.verdict`` for what is certain);
- *twice*: a tick has two records of its completion, or was run after it had one;
- *missed*: a tick between the first and the last has no record. One of 'skip', which is run at most once, is not missed if it was
  begun, and its function raised because the tick had passed on; or if the worker that claimed it was killed or stopped then;
- *late*: the longest time from a tick to the beginning of the run that completed it. Only if the schedules' clocks are right.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from tests.support.stores import KINDS

from benchmarks.libraries.process import ROOT
from jobsync import plugins
from jobsync.backend import Audit, BackendOptions, Claim, HistoryKind
from jobsync.testing.verdict import Overlap, owned_at_once
from jobsync.testing.worker_log import LoggedEvent, LogTail, Sighting, WorkerLog, now

__all__ = ['Outcome', 'Plan', 'run']

FAULTS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
_START_SEC, _END_SEC = 120.0, 60.0


@attrs.frozen
class Plan:
    """What is run."""

    processes: int = 10
    functions: int = 20
    period_sec: float = 6.0
    work_sec: float = 0.5
    seconds: float = 330.0
    timeout_sec: float = 3.0
    fault_every_sec: float = 7.0
    clock_error_sec: float = 120.0
    schedule_error_sec: float = 0.0
    seed: int = 0

    def config(self, url: str) -> dict[str, Any]:
        """Return the configuration of each worker."""
        return {
            'backend': url,
            'total_tokens': 200,
            'minimum_nodes': 1,
            'heartbeat_interval_sec': self.timeout_sec / 6,
            'heartbeat_timeout_sec': self.timeout_sec,
            'dead_node_check_interval_sec': 1,
            'rebalance_delay_sec': 0.1,
            'rebalance_check_interval_sec': 1,
            'token_refresh_initial_interval_sec': 1,
            'token_refresh_steady_interval_sec': 1,
            'shutdown_timeout_sec': 5,
        }


@attrs.frozen
class Fault:
    """A signal to a worker."""

    at: float
    signal: str
    node: str


@attrs.define
class Outcome:
    """What was found."""

    ticks: int
    """Ticks with a record."""
    faults: Mapping[str, int]
    at_once: tuple[Overlap, ...]
    twice: list[str]
    missed: list[str]
    begun_only: int
    """Ticks of 'skip' that a worker had begun or claimed, and that did not end well."""
    latest_sec: float
    """The longest time from a tick to the beginning of the run that completed it."""


class Worker:
    """A process, and its log."""

    def __init__(self, folder: Path, name: str, spec: Mapping[str, Any]) -> None:
        self.name, self._path = name, folder / f'{name}.log'
        self._tail, self.events = LogTail(self._path), list[LoggedEvent]()
        command = [sys.executable, '-m', 'benchmarks.ticks_worker', str(self._path), name, json.dumps(spec)]
        with (folder / f'{name}.txt').open('wb') as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        self.is_stopped = False

    def read(self) -> list[LoggedEvent]:
        """Return all events so far."""
        self.events += self._tail.read()
        return self.events

    @property
    def is_running(self) -> bool:
        """Whether this has entered, goes on, and is not stopped."""
        return not self.is_stopped and self.process.poll() is None and any(each['what'] == 'entered' for each in self.read())

    def has_worked(self) -> bool:
        """Return whether this has run a tick within the last seconds: then it owns a schedule."""
        return any(each['what'] == 'held' and each['t'] > now() - 5 for each in reversed(self.read()[-50:]))


def run(url: str, plan: Plan, folder: Path) -> Outcome:
    """Run workers on a store for the time of the plan, and judge."""
    chance = random.Random(plan.seed)
    every: list[Worker] = []

    def start() -> Worker:
        spec = {
            'config': plan.config(url),
            'functions': plan.functions,
            'period_sec': plan.period_sec,
            'work_sec': plan.work_sec,
            'clock_error_sec': chance.uniform(-1, 1) * plan.clock_error_sec,
            'schedule_error_sec': chance.uniform(-1, 1) * plan.schedule_error_sec,
        }
        every.append(Worker(folder, f'w{len(every)}', spec))
        return every[-1]

    with _ended(every):
        workers = [start() for _ in range(plan.processes)]
        _wait(lambda: all(worker.is_running for worker in workers), _START_SEC, 'all workers enter')
        wall_since, since = time.time(), now()
        faults = list[Fault]()
        stopped: list[tuple[float, Worker]] = []
        next_fault = since + plan.fault_every_sec
        while now() < since + plan.seconds:
            for moment, worker in [each for each in stopped if now() >= each[0]]:
                worker.process.send_signal(signal.SIGCONT)
                worker.is_stopped = False
                stopped.remove((moment, worker))
            if now() >= next_fault:
                running = [worker for worker in workers if worker.is_running]
                at_work = [worker for worker in running if worker.has_worked()] or running
                if at_work:
                    victim, fault = chance.choice(at_work), chance.choice(FAULTS)
                    time.sleep(chance.uniform(0, plan.period_sec) if chance.random() < 0.5 else 0)
                    _wait_until_at_work(victim, plan, chance)
                    victim.process.send_signal(fault)
                    faults.append(Fault(time.time(), fault.name, victim.name))
                    if fault is signal.SIGSTOP:
                        victim.is_stopped = True
                        stopped.append((now() + 2 * plan.timeout_sec, victim))
                    else:
                        workers.remove(victim)
                        workers.append(start())
                # From the fault on, so that its consequences are over before the next: a takeover takes timeout_sec + 2 s.
                next_fault = now() + plan.fault_every_sec
            time.sleep(0.05)
        wall_until = time.time()
        for worker in workers:
            worker.process.send_signal(signal.SIGCONT)
            worker.process.terminate()
        for worker in workers:
            worker.process.wait(_END_SEC)
    return _judge(url, plan, every, faults, wall_since, wall_until, time.time() - now())


def _wait_until_at_work(victim: Worker, plan: Plan, chance: random.Random) -> None:
    """Wait, half of the time, until the worker is in the middle of a tick."""
    if chance.random() < 0.5:
        until = now() + plan.period_sec
        while now() < until and not any(each['t'] > now() - 0.05 for each in victim.read()[-1:] if each['what'] == 'held'):
            time.sleep(0.01)


@contextmanager
def _ended(workers: Sequence[Worker]) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()


def _wait(condition: Any, seconds: float, what: str) -> None:
    until = now() + seconds
    while not condition():
        if now() > until:
            raise TimeoutError(f'not within {seconds:g} s: {what}')
        time.sleep(0.05)


# --- the judgement ------------------------------------------------------------------------------------------------------------


@attrs.define
class _Run:
    """One call of a function for a tick."""

    node: str
    tick: str
    begin: float
    held: list[tuple[float, float]] = attrs.field(factory=list)
    end: float | None = None


def _runs(workers: Sequence[Worker]) -> list[_Run]:
    found = list[_Run]()
    for worker in workers:
        by_run = dict[str, _Run]()
        for event in worker.read():
            match event:
                case {'what': 'begin', 'task': task, 'run': run_id, 't': t}:
                    by_run[run_id] = _Run(worker.name, task, t)
                case {'what': 'held', 'run': run_id, 'before': before, 'after': after}:
                    by_run[run_id].held.append((before, after))
                case {'what': 'end', 'run': run_id, 't': t}:
                    by_run[run_id].end = t
        found += by_run.values()
    return found


def _at_once(runs: Sequence[_Run]) -> tuple[Overlap, ...]:
    """Return where two nodes certainly had one tick: each from the end of its first reading to the start of its last."""
    numbers = {tick: number for number, tick in enumerate(sorted({each.tick for each in runs}))}
    logs = [
        WorkerLog(each.node, sightings=(Sighting(each.node, frozenset([numbers[each.tick]]), each.held[0][1], each.held[-1][0]),))
        for each in runs
        if each.held
    ]
    return owned_at_once(logs)


def _judge(
    url: str, plan: Plan, workers: Sequence[Worker], faults: Sequence[Fault], since: float, until: float, wall_less_now: float
) -> Outcome:
    runs = _runs(workers)
    backend = plugins.connect(url, BackendOptions(op_timeout_sec=20))
    # Items with a word behind the tick say how a run of it has ended (see ``jobsync._worker.ticks``).
    audits = [
        row
        for row in backend.history(HistoryKind.AUDIT)
        if isinstance(row, Audit) and row.item.startswith('every:') and ' ' not in row.item
    ]
    claimed = {row.item: row for row in backend.history(HistoryKind.CLAIM) if isinstance(row, Claim)}
    backend.close()
    recorded = Counter(row.item for row in audits)
    begun = defaultdict[str, list[_Run]](list)
    for each in runs:
        begun[each.tick].append(each)
    twice = [tick for tick, count in recorded.items() if count > 1]
    recorded_at = {row.item: row.created_on.timestamp() - wall_less_now for row in audits}
    twice += [each.tick for each in runs if each.begin > recorded_at.get(each.tick, float('inf')) + 0.1]
    missed, begun_only, latest = list[str](), 0, 0.0
    is_judged = plan.schedule_error_sec == 0
    slack = plan.timeout_sec + 2 + plan.work_sec
    for number in range(plan.functions):
        for tick in _grid(plan.period_sec, since + slack, until - 2 * slack):
            item = f'every:f{number}@{dt.datetime.fromtimestamp(tick, dt.UTC).isoformat().replace("+00:00", "Z")}'
            if not recorded[item]:
                claim = claimed.get(item)
                if not number % 2 and (begun[item] or (claim and _was_hit(claim, faults, slack))):
                    begun_only += 1
                else:
                    missed.append(f'{item}: {_story(begun[item], faults, tick, wall_less_now)}')
            elif ended := [each.begin for each in begun[item] if each.end is not None]:
                latest = max(latest, min(ended) + wall_less_now - tick)
    return Outcome(
        ticks=len(recorded),
        faults=Counter(each.signal for each in faults),
        at_once=_at_once(runs),
        twice=twice,
        missed=missed if is_judged else [],
        begun_only=begun_only if is_judged else 0,
        latest_sec=latest if is_judged else float('nan'),
    )


def _was_hit(claim: Claim, faults: Sequence[Fault], slack: float) -> bool:
    """Return whether a worker was killed or stopped as it claimed a tick, or soon after."""
    at = claim.created_on.timestamp()
    ends = (signal.SIGKILL.name, signal.SIGSTOP.name)
    return any(each.node == claim.node and each.signal in ends and -1 < each.at - at < slack for each in faults)


def _story(begun: Sequence[_Run], faults: Sequence[Fault], tick: float, wall_less_now: float) -> str:
    """Return what happened around a tick, in seconds after its time."""
    events = [(each.at - tick, f'{each.signal} to {each.node}') for each in faults]
    for each in begun:
        events.append((each.begin + wall_less_now - tick, f'begun by {each.node}'))
        events += [(held[-1][0] + wall_less_now - tick, f'last held by {each.node}') for held in (each.held,) if held]
    return ', '.join(f'{at:.1f} s {what}' for at, what in sorted(events) if -30 < at < 60) or 'nothing'


def _grid(period: float, since: float, until: float) -> Iterator[float]:
    number = int(since / period) + 1
    while number * period <= until:
        yield number * period
        number += 1


def main() -> None:
    """Run on a server of its own, and print what was found."""
    defaults = Plan()
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--store', default='postgresql', choices=sorted(set(KINDS) - {'memory'}))
    parser.add_argument('--processes', type=int, default=defaults.processes)
    parser.add_argument('--functions', type=int, default=defaults.functions)
    parser.add_argument('--period', type=float, default=defaults.period_sec)
    parser.add_argument('--seconds', type=float, default=defaults.seconds)
    parser.add_argument('--timeout', type=float, default=defaults.timeout_sec)
    parser.add_argument('--fault-every', type=float, default=defaults.fault_every_sec)
    parser.add_argument('--clock-error', type=float, default=defaults.clock_error_sec)
    parser.add_argument('--schedule-error', type=float, default=0.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--logs', type=Path, help='a folder that keeps the logs of the workers')
    given = parser.parse_args()
    plan = Plan(
        processes=given.processes,
        functions=given.functions,
        period_sec=given.period,
        seconds=given.seconds,
        timeout_sec=given.timeout,
        fault_every_sec=given.fault_every,
        clock_error_sec=given.clock_error,
        schedule_error_sec=given.schedule_error,
        seed=given.seed,
    )
    with tempfile.TemporaryDirectory() as folder, KINDS[given.store].fresh() as url:
        logs = given.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        outcome = run(url, plan, logs)
    print(f'{outcome.ticks} ticks with a record, faults {outcome.faults}')
    print(f'at once {len(outcome.at_once)}, twice {len(outcome.twice)}, missed {len(outcome.missed)}')
    print(f"begun only, under 'skip': {outcome.begun_only}; latest {outcome.latest_sec:.2f} s after its time", end=' ')
    print(f'(timeout {plan.timeout_sec:g} s + 2 s)')
    for what in (*outcome.at_once[:5], *outcome.twice[:5], *outcome.missed[:5]):
        print('  ', what)


if __name__ == '__main__':
    main()
