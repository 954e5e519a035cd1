"""Tasks per second from end to end: ``Job.claim`` over tasks that do nothing, in 1 to 8 processes, beside what others do.

    python -m benchmarks.endtoend                                       ours, one process, on each store
    python -m benchmarks.endtoend --store postgresql --rivals           beside the peer, a queue and procrastinate
    python -m benchmarks.endtoend --processes 1 2 4 8 --tasks 20000

Every contestant is a ``Team`` of processes that stay up; they take turns, a round each, on one server. A round of ours counts
only if each of its tasks was done exactly once and the store has it on record; those of others are reported with what was wrong.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

from benchmarks.compare import Other, all_at_once, machine, markdown, ratio
from benchmarks.fresh import STORES, fresh
from benchmarks.noop_tasks import NotOnce, Round, judged, line
from benchmarks.rivals.catalogue import service
from benchmarks.rivals.environments import RivalUnavailable
from benchmarks.rivals.peer import admit

from jobsync.testing.servers import PostgresServer

__all__ = ['Team', 'ours', 'peers', 'queue', 'turns']

_TOKENS = 10_000
_ROLE = 'peer'
_SETTLE_SEC = 120.0


class Team:
    """Processes that do the tasks of a round together. The first one also prepares it, and looks at the record."""

    def __init__(self, name: str, members: Sequence[Other]) -> None:
        self.name, self._members = name, members
        self._next = 0

    def settle(self) -> None:
        """Wait until each member has its share of the tokens, where members have tokens."""
        deadline = time.monotonic() + _SETTLE_SEC
        count = len(self._members)
        while True:
            shares = [int(member.ask('tokens 0 0')) for member in self._members]
            if sum(shares) == _TOKENS and max(shares) - min(shares) <= 1:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f'{self.name}: {count} processes have {shares} tokens after {_SETTLE_SEC:g} s')
            time.sleep(0.1)

    def round(self, verb: str, count: int) -> Round:
        """Have ``count`` tasks done."""
        first, self._next = self._next, self._next + count
        self._members[0].ask(line('fill', first, count))
        answers = all_at_once(self._members, [line(verb, first, count)] * len(self._members))
        return judged(answers, first, count, self._members[0].ask(line('recorded', first, count)))

    def profile(self, count: int) -> str:
        """Where the time of a round of ours goes, in the first process."""
        first, self._next = self._next, self._next + count
        text: str = self._members[0].ask(line('profile', first, count))
        return text


@contextmanager
def ours(url: str, processes: int) -> Iterator[Team]:
    """Workers of ours on any store; verbs ``claim``, ``stream`` and ``steps``."""
    with ExitStack() as stack:
        namespace = f'end{processes}_'
        members = [
            stack.enter_context(Other(sys.executable, 'benchmarks.endtoend_worker', url, namespace, f'ours-{number}'))
            for number in range(processes)
        ]
        team = Team('ours', members)
        team.settle()
        yield team


@contextmanager
def peers(server: PostgresServer, processes: int) -> Iterator[Team]:
    """The peer's workers, on a server that has admitted it; verb ``steps``. Raises ``RivalUnavailable``."""
    with ExitStack() as stack:
        start = service('peer tasks').start
        members = [stack.enter_context(start(port=server.port, role=_ROLE, node=f'peer-{number}')) for number in range(processes)]
        team = Team('peer', members)
        team.settle()
        yield team


@contextmanager
def queue(name: str, url: str, processes: int) -> Iterator[Team]:
    """The workers of a queue, ``skip-locked`` or ``procrastinate``. Raises ``RivalUnavailable``."""
    with ExitStack() as stack:
        yield Team(name, [stack.enter_context(service(name).start(url=url)) for _ in range(processes)])


def turns(runs: Mapping[str, Callable[[], Round]], rounds: int) -> dict[str, list[Round]]:
    """What each run came to in each of ``rounds`` rounds, which every time another one begins."""
    results: dict[str, list[Round]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(runs[name]())
    return results


def checked(name: str, run: Callable[[], Round]) -> Callable[[], Round]:
    """A run of ours, which must have done each task exactly once."""

    def checked_run() -> Round:
        done = run()
        done.check(name)
        return done

    return checked_run


def contest(
    stack: ExitStack, store: str, processes: int, tasks: int, *, rivals: bool, every_form: bool
) -> dict[str, Callable[[], Round]]:
    """The runs of all that can be had on a store; a rival that cannot is named on standard error."""
    runs: dict[str, Callable[[], Round]] = {}
    if store == 'postgresql':
        server = stack.enter_context(closing(PostgresServer()))
        url = server.url()
    else:
        url = stack.enter_context(fresh(store))
    team = stack.enter_context(ours(url, processes))
    for verb in ('claim', 'stream', 'steps') if every_form else ('claim',):
        runs[f'ours, {verb}'] = checked(f'ours, {verb} on {store}', lambda verb=verb: team.round(verb, tasks))  # type: ignore[misc]
    if not (rivals and store == 'postgresql'):
        return runs
    admit(server, _ROLE)
    teams: dict[str, tuple[Callable[[], Team], tuple[str, ...]]] = {
        'peer': (lambda: stack.enter_context(peers(server, processes)), ('steps',)),
        'skip-locked': (lambda: stack.enter_context(queue('skip-locked', url, processes)), ('one', 'kept', 'batch')),
        'procrastinate': (lambda: stack.enter_context(queue('procrastinate', url, processes)), ('one', 'many')),
    }
    for name, (start, verbs) in teams.items():
        try:
            rival = start()
        except RivalUnavailable as error:
            print(error, file=sys.stderr, flush=True)
            continue
        for verb in verbs:
            runs[f'{name}, {verb}'] = lambda rival=rival, verb=verb: rival.round(verb, tasks)  # type: ignore[misc]
    return runs


def table(store: str, processes: int, results: Mapping[str, Sequence[Round]]) -> list[list[str]]:
    """The rows of one contest, ratios to ours first."""
    ours_sec = statistics.median(done.per_task for done in results['ours, claim'])
    rows = []
    for name, done in results.items():
        times = sorted(each.per_task for each in done)
        middle = statistics.median(times)
        wrong = sum(each.twice + each.missed for each in done)
        rows.append(
            [store, str(processes), name, ratio(middle, ours_sec), f'{1e6 * middle:.1f}', f'{1e6 * times[0]:.1f}',
             f'{1e6 * times[-1]:.1f}', f'{1 / middle:,.0f}', str(wrong)]
        )  # fmt: skip
    return rows


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', action='append', choices=STORES, help='one of them; all without it')
    parser.add_argument('--processes', type=int, nargs='+', default=[1])
    parser.add_argument('--tasks', type=int, default=2_000, help='in a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--rivals', action='store_true', help='on PostgreSQL, beside others; their environments are made if need be'
    )
    parser.add_argument('--every-form', action='store_true', help='ours also over an iterator, and by the steps of the guide')
    parser.add_argument('--profile', action='store_true', help='instead, where the time of one process of ours goes')
    options = parser.parse_args(arguments)
    rows = []
    for store in options.store or STORES:
        for processes in options.processes:
            with ExitStack() as stack:
                if options.profile:
                    team = stack.enter_context(ours(stack.enter_context(fresh(store)), processes))
                    team.round('claim', options.tasks)
                    print(store, team.profile(options.tasks), sep='\n\n')
                    continue
                runs = contest(stack, store, processes, options.tasks, rivals=options.rivals, every_form=options.every_form)
                turns(runs, 1)  # the first round of each warms it up
                try:
                    rows += table(store, processes, turns(runs, options.rounds))
                except NotOnce as error:
                    sys.exit(str(error))
    if rows:
        columns = ['store', 'processes', 'who', 'time/ours', 'us a task', 'least', 'most', 'tasks/s', 'not once']
        print(machine(), markdown(columns, rows), sep='\n\n')


if __name__ == '__main__':
    main(sys.argv[1:])
