"""SIGTERM at random moments: whether every process ends well and in time, and no token stays behind.

    python -m benchmarks.signals --runs 100
    python -m benchmarks.signals --runs 20 --store postgresql --store redis

Each run is a process that gets one signal while it is entering, beginning tasks, auditing, called back, in a ``claim`` loop or
leaving: with the handler of the user's guide (``job.__exit__(None, None, None)``, then ``sys.exit(0)``) and with
``handle_signals=True`` in turns. A node of this process stays. Its weight changes all the time, so that hand-overs
are always under way; its heartbeat timeout is ten minutes, so that tokens come back to it only if they are given back.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
from tests.support.stores import KINDS

from benchmarks.libraries.process import ROOT
from benchmarks.places import DEFAULT
from jobsync import CoordinationConfig, Job
from jobsync_bench.formatting import table
from jobsync_bench.interrupts import run_interruptible
from jobsync_bench.machine import Machine

PLACES = ('enter', 'add_task', 'write_audit', 'callback', 'claim', 'claim batch', 'exit')
HANDLERS = ('guide', 'own')
_SETTINGS: dict[str, Any] = {
    'total_tokens': 60,
    'minimum_nodes': 1,
    'heartbeat_interval_sec': 0.5,
    'heartbeat_timeout_sec': 600,
    'rebalance_delay_sec': 0.1,
    'rebalance_check_interval_sec': 1,
    'handover_timeout_sec': 5,
    'shutdown_timeout_sec': 2,
}
_START_SEC, _END_SEC, _BACK_SEC = 60.0, 20.0, 20.0
_AT_ONCE = 4
_BAD = re.compile(r'^.*(?:Traceback|ERROR|could not|unexpected|Exception ignored).*$', re.MULTILINE)


@attrs.define
class Tally:
    """The outcomes of the runs of one kind."""

    runs: int = 0
    ended_well: int = 0
    """Runs that ended in time with exit status 0."""
    back: int = 0
    """Runs after which all tokens were given back and the node's record was removed."""
    longest_sec: float = 0.0
    noise: int = 0
    """Runs that wrote a traceback or an error."""


class Run:
    """One process that gets a signal."""

    def __init__(self, url: str, name: str, place: str, handler: str) -> None:
        self.name, self.place, self.handler = name, place, handler
        command = [sys.executable, '-m', 'benchmarks.signals_worker', url, name, place, handler, json.dumps(_SETTINGS)]
        self._errors = tempfile.TemporaryFile('w+', errors='replace')  # noqa: SIM115  (the thread that follows closes it)
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        self.faults: list[str] = []
        self.took_sec = 0.0
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        """Wait for the right moment, send the signal, and record how the process ends."""
        process = self._process
        killer = threading.Timer(_START_SEC, process.kill)
        killer.start()
        assert process.stdout is not None
        wanted = {'enter': 'entering', 'exit': 'leaving'}.get(self.place, 'entered')
        said: list[str] = []
        for line in process.stdout:
            said.append(line.strip())
            if said[-1] == wanted:
                break
        killer.cancel()
        time.sleep(random.uniform(0, {'enter': 0.3, 'exit': 0.05}.get(self.place, 0.5)))
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.faults.append(f'has not ended {_END_SEC:.0f} s after SIGTERM')
        self.took_sec = time.monotonic() - sent
        said += process.stdout.read().split()  # not by communicate, which does not see what was read ahead
        self._errors.seek(0)
        words = self._errors.read()
        self._errors.close()
        # The interpreter's own end takes the handlers away.
        has_left = 'left' in said
        if process.returncode and not (has_left and process.returncode == -signal.SIGTERM) and not self.faults:
            self.faults.append(f'status {process.returncode}: {words[-3000:]}')
        self.noise = _BAD.findall(words)
        self.words = words

    def kill(self) -> None:
        """Kill the process if it has not ended."""
        self._process.kill()
        self.thread.join()


class StayingNode(Job):
    """The node that stays, with a weight that changes all the time."""

    def sway(self, until: threading.Event) -> None:
        """Keep hand-overs going."""
        heavy = False
        while not until.wait(0.3):
            heavy = not heavy
            self.set_weight(2.0 if heavy else 1.0)

    def wait_for_all(self) -> list[str]:
        """Wait until other nodes have left and their tokens are back, and return what is left behind."""
        deadline = time.monotonic() + _BACK_SEC
        while True:
            others = [str(node['name']) for node in self.nodes if node['name'] != self.node_name]
            missing = _SETTINGS['total_tokens'] - len(self.my_tokens)
            if not others and not missing:
                return []
            if time.monotonic() > deadline:
                return [*others, f'{missing} tokens']
            time.sleep(0.02)


def play(kind: str, url: str, runs: int) -> dict[tuple[str, str], Tally]:
    """Play runs of all kinds, several at a time."""
    tallies = {(place, handler): Tally() for place in PLACES for handler in HANDLERS}
    kinds = list(tallies)
    over = threading.Event()
    config = CoordinationConfig(backend=url, **_SETTINGS)
    with StayingNode('stays', coordination_config=config) as staying:
        swaying = threading.Thread(target=staying.sway, args=(over,))
        swaying.start()
        try:
            for first in range(0, runs, _AT_ONCE):
                chosen = [(f'w{number}', *kinds[number % len(kinds)]) for number in range(first, min(runs, first + _AT_ONCE))]
                started = [Run(url, *each) for each in chosen]
                try:
                    for run in started:
                        run.thread.join()
                finally:
                    for run in started:
                        run.kill()
                behind = staying.wait_for_all()
                for run in started:
                    count(tallies[run.place, run.handler], run, behind)
                    for fault in (*run.faults, *run.noise):
                        say(f'{kind}: {run.name}, {run.place}, {run.handler}: {fault}')
                if behind:
                    say(f'{kind}: left behind: {", ".join(behind)}')
                    break
                say(f'{kind}: {first + len(started)} of {runs}')
        finally:
            over.set()
            swaying.join()
    return tallies


def count(tally: Tally, run: Run, behind: Sequence[str]) -> None:
    tally.runs += 1
    tally.ended_well += not run.faults
    tally.back += not behind
    tally.longest_sec = max(tally.longest_sec, run.took_sec)
    tally.noise += bool(run.noise)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', choices=DEFAULT, action='append', help='this one only; may be given again')
    parser.add_argument('--runs', type=int, default=100, help='processes on each store')
    parser.add_argument('--seed', type=int, help='of the moments')
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    rows = []
    for kind in options.store or DEFAULT:
        with KINDS[kind].fresh() as url:
            tallies = play(kind, url, options.runs)
        rows += [[kind, *what, *map(str, attrs.astuple(tally)[:3]), f'{tally.longest_sec:.2f}', str(tally.noise)]
                 for what, tally in tallies.items() if tally.runs]  # fmt: skip
    columns = ['store', 'place', 'handler', 'runs', 'ended well', 'tokens back', 'longest s', 'with errors']
    print(Machine.here(), table(columns, rows), sep='\n\n')
    sys.exit(any(row[3] != row[4] or row[3] != row[5] for row in rows))


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
