"""The writes of the leader after a join, and the reads of every node."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from jobsync_bench.bench import Bench, Rounds
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.leader_driver import LeaderDriver
from jobsync_bench.scenario import Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO', 'case_of']

_NODES = 10


def case_of(tokens: int) -> str:
    """Return the case of a number of tokens."""
    return f'{tokens:,} tokens'


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    for tokens in (10_000,) if bench.quick else (10_000, 100_000, 1_000_000):
        with closing(LeaderDriver(bench.store.url, bench.store.namespace(), tokens, _NODES)) as leader:
            if leader.backend.info.max_tokens < tokens:
                bench.say(f'{bench.place} carries {leader.backend.info.max_tokens:,} tokens at most')
                continue

            def join(leader: LeaderDriver = leader) -> float:
                took = leader.join()
                leader.leave()
                return took

            case, many = case_of(tokens), tokens >= 1_000_000
            few, more = Rounds(2 if many else 3, least=2, seconds=30), Rounds(5 if many else 10)
            bench.in_turns('join', case, {'ours': join}, few, at=tokens)
            once = Rounds(1, least=1) if many else few
            bench.in_turns('nothing', case, {'ours': leader.nothing}, once, at=tokens)
            bench.in_turns('read', case, {'ours': leader.read}, more, at=tokens)
            bench.in_turns('look', case, {'ours': partial(leader.read, changes=True)}, more, at=tokens)


SCENARIO = Scenario(
    name='commit',
    title='Writing and reading an assignment',
    means="""
        How long the store is busy when a node joins or leaves, and so how soon a new node gets its share. Here a join moves
        one token in eleven.
    """,
    bounds="""
        The rows or bytes that name the new owners, on the disk. A join takes two commits: the first sets the targets of the
        tokens, the second makes the targets owners after the former owners have released the tokens. So no task ever has two
        owners.
    """,
    figures=(
        Figure(
            'join',
            Unit.SECONDS,
            'The work of the leader for a node that joins ten: two snapshots, two decisions, two commits, '
            "and the reading between them. The other nodes' heartbeats are not counted.",
            axis='tokens',
        ),
        Figure(
            'nothing',
            Unit.SECONDS,
            'The same when nothing has changed: one snapshot, and no write.',
            axis='tokens',
        ),
        Figure('read', Unit.SECONDS, 'A node that enters reads the whole assignment.', axis='tokens'),
        Figure('look', Unit.SECONDS, 'A node reads the changes since its version, and there are none.', axis='tokens'),
    ),
    play=play,
    targets=tuple(
        Target(
            f'commit of a join, {case_of(tokens)}, PostgreSQL: times the peer',
            Pick('join', who='peer', case=case_of(tokens)),
            at_least=least,
            against=Pick('join', case=case_of(tokens)),
        )
        for tokens, least in ((10_000, 8), (100_000, 10), (1_000_000, 15))
    ),
)
