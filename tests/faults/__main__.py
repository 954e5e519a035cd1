"""Real servers, real processes, and everything that goes wrong: ``python -m tests.faults --store redis --seed 7 --minutes 5``.

Runs follow each other until the minutes are over, with one seed after the other; several stores take turns. Exit status 1 if a
token or a task had two owners at once, or the specification refuses the trace of the workers, or accepts a mutation of it.
``JOBSYNC_FAULTS_KEEP=FOLDER`` keeps the workers' logs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.faults.breaks import BREAKS
from tests.faults.broken import ATTEMPTS, SHOWN_BY, one_fault
from tests.faults.catalogue import FAULTS
from tests.faults.large import SETTLE_SEC as LARGE_SETTLE_SEC
from tests.faults.large import faults_of_many, large_stage, make_room
from tests.faults.places import PLACES
from tests.faults.run import SETTLE_SEC, Report, run

from jobsync_bench.interrupts import run_interruptible

RUN_SEC = 60.0
"""How long faults are played on one cluster."""


def say(text: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(f'{text}\n')
    sys.stderr.flush()


def show(report: Report) -> None:
    """Write what a run proved."""
    for part in report.parts:
        bound = '' if part.bound_sec is None else f' of {part.bound_sec:.1f}'
        marks = ('' if part.in_time else '  LONGER THAN PROMISED') + ('' if part.settled else '  NOT SETTLED')
        figures = f'gap {part.gap_sec:.2f}{bound} s, settled after {part.settle_sec:.2f} s, {part.moved} moved'
        say(f'  {" + ".join(part.faults)}: {figures}{marks}')
    trace = (
        f'; trace of {report.trace.events} events {"refused" if report.trace.refusal else "accepted"}, '
        f'{report.trace.mutated - len(report.trace.accepted)} of {report.trace.mutated} mutated ones refused'
    )
    say(
        f'{report.store} seed {report.seed}: {report.seconds:.0f} s, {len(report.parts)} times something went wrong; '
        f'owned twice {report.owned_twice:.4f} token-seconds, answered twice {report.answered_twice}, '
        f'done twice at once {report.worked_twice} (late {report.late}), missed {report.missed} of {report.tasks}'
        f'{trace if report.stage.traced else ""}'
    )
    for detail in report.details:
        say(f'  {detail}')
    if report.trace.refusal:
        say(f'  the trace is refused: {report.trace.refusal}')
    for mutation in report.trace.accepted:
        say(f'  the trace is accepted after {mutation}')


def show_break(name: str) -> int:
    """Play the fault that shows a break until there are two owners; return the status: 1 if there were."""
    for seed in range(ATTEMPTS):
        report = one_fault(SHOWN_BY[name], seed, name)
        show(report)
        if not report.is_sound:
            return 1
    say(f'{name}: one owner in each of {ATTEMPTS} runs')
    return 0


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog='python -m tests.faults', description=__doc__)
    parser.add_argument('--store', choices=list(PLACES), action='append', help='may be given again; all by default')
    parser.add_argument('--seed', type=int, default=1, help='of the first run')
    parser.add_argument('--minutes', type=float, default=5.0, help='for each store')
    parser.add_argument('--fault', choices=list(FAULTS), action='append', help='draw from these only')
    parser.add_argument('--most', type=int, default=3, help='how many faults may happen at once')
    parser.add_argument('--in-turn', action='store_true', help='play every fault once, alone, instead')
    parser.add_argument('--nodes', type=int, help='so many workers with the default timings, one cluster for all the minutes')
    parser.add_argument('--results', type=Path, help='append a line for each run to this file')
    parser.add_argument('--list', action='store_true', help='list the faults and their stores, and end')
    parser.add_argument('--broken', choices=list(BREAKS), help='break a rule in the workers, and play the fault that shows it')
    options = parser.parse_args(arguments)
    if options.broken:
        sys.exit(show_break(options.broken))
    if options.list:
        for fault in FAULTS.values():
            say(f'{fault.name}: {", ".join(fault.stores)}')
        return
    stage, unsound = None, False
    if options.nodes:
        stage = large_stage(options.nodes)
        make_room(options.nodes)
    for store in options.store or PLACES:
        seed, end = options.seed, time.monotonic() + 60 * options.minutes
        while (left := end - time.monotonic()) > 0:
            report = run(
                store,
                seed,
                left if stage else min(RUN_SEC, left),
                stage=stage,
                names=options.fault or (faults_of_many(store) if stage else ()),
                most=options.most,
                in_turn=options.in_turn,
                settle_sec=LARGE_SETTLE_SEC if stage else SETTLE_SEC,
                say=say,
            )
            show(report)
            if options.results:
                report.append_to(options.results)
            unsound |= not report.is_right
            seed += 1
            if options.in_turn:
                break
    sys.exit(unsound)


if __name__ == '__main__':
    run_interruptible(partial(main, sys.argv[1:]))
