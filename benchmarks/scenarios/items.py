"""A small known set of items, shared out exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.items import Outcome, run
from jobsync._core.hashing import tokenizer
from jobsync_bench.bench import Bench
from jobsync_bench.figures import Figure, Side, Unit
from jobsync_bench.scenario import Scenario
from jobsync_bench.targets import Pick, Target

__all__ = ['SCENARIO']

_ITEMS, _NODES = 20, 10
_HASHED = 'by their hash'
_TOKENS = 10_000


def by_hash(sets: int) -> Sequence[float]:
    """Return the fullest node's items, for sets of items that go to ten nodes by their hash: what other libraries do."""
    token_of = tokenizer('xxh3', _TOKENS)
    names = ([f'feed-{number}-{item}' for item in range(_ITEMS)] for number in range(sets))
    return [float(max(Counter(token_of(name) * _NODES // _TOKENS for name in each).values())) for each in names]


def record(bench: Bench, outcome: Outcome, case: str) -> None:
    """Record what one cluster showed."""
    fewest = _ITEMS // _NODES
    bench.record('fullest node', case, [float(outcome.shares[-1])])
    bench.record('fullest node', case, by_hash(100), who=_HASHED, side=Side.RIVAL)
    bench.record('fullest node', case, [float(fewest)], who='the limit', side=Side.FLOOR)
    bench.record('moved', case, list(map(float, outcome.joins)))
    bench.record('moved', case, [float(_ITEMS // (_NODES + 1))], who='the limit', side=Side.FLOOR)
    bench.record('settled', case, outcome.join_secs)
    bench.record('owned by two', case, [float(outcome.owned_twice)])


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    rounds = 3 if bench.quick else 10
    record(bench, run(bench.store.url, _ITEMS, _NODES, rounds, bench.store.namespace()), f'{_ITEMS} items, {_NODES} nodes')


SCENARIO = Scenario(
    name='items',
    title='A few items, shared out exactly',
    means="""
        declare_items shares out a small known set, such as tenants or feeds. By their hash, some of ten nodes would have five of
        twenty items and others none. Ten nodes, threads of one process, share out twenty items, while one joins and leaves again
        and again. All nodes are asked for all items all the time.
    """,
    bounds="""
        Twenty items on ten nodes are two each. An eleventh node takes one, and nothing else moves. A join waits 0.2 s for further
        nodes (rebalance_delay_sec, as set here), and takes two commits with acknowledgements.
    """,
    figures=(
        Figure('fullest node', Unit.COUNT, 'The items of the node that has the most.'),
        Figure('moved', Unit.COUNT, 'Items that a join moves.'),
        Figure('settled', Unit.SECONDS, 'From the begin of a join to exact shares on all nodes.', tail=True),
        Figure('owned by two', Unit.COUNT, 'Moments at which two nodes owned one item.'),
    ),
    play=play,
    targets=(
        Target('items: the fullest node has no more than the least possible', Pick('fullest node', statistic='most'), at_most=2),
        Target('items: a join moves no more than the least', Pick('moved', statistic='most'), at_most=1),
        Target('items owned by two', Pick('owned by two', statistic='most'), at_most=0),
    ),
)
