"""The cost of the calls of the store that every node repeats."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from functools import partial
from itertools import count

from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.leader_driver import LeaderDriver
from jobsync_bench.scenario import Scenario
from jobsync_bench.timing import seconds

__all__ = ['SCENARIO']

_TOKENS, _NODES = 10_000, 10


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    leader = bench.stack.enter_context(closing(LeaderDriver(bench.store.url, bench.store.namespace(), _TOKENS, _NODES)))
    backend, me = leader.backend, leader.me
    version, date, items = backend.snapshot().version, dt.datetime.now(dt.UTC).date(), map('task-{}'.format, count())
    rounds = Rounds(50 if bench.quick else 300, least=10, seconds=10)
    calls = {
        'heartbeat': lambda: backend.heartbeat(me, version, frozenset()),
        'snapshot of 10 nodes': backend.snapshot,
        'what is new? nothing': lambda: backend.read_assignment(version),
        'one claim': lambda: backend.append_claims(me, [next(items)], date),
    }
    for case, call in calls.items():
        bench.in_turns('call', case, {'ours': partial(seconds, call)}, rounds)


SCENARIO = Scenario(
    name='calls',
    title='One call of the store',
    means="""
        A node calls the store 12 to 26 times a minute, and can_claim_task never waits for a call. A hand-over waits for a few
        of these calls, and a task that is begun alone (add_task) for one.
    """,
    bounds="""
        The round trip to the store. A heartbeat and a claim also wait for the store's disk: both are written before they are
        acknowledged.
    """,
    figures=(Figure('call', Unit.SECONDS, 'Elapsed time from the call to its answer.', tail=True),),
    play=play,
)
