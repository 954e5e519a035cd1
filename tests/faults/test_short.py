"""The short form: a few faults on each store. ``tox -e faults`` is the long form, and ``python -m tests.faults`` any other."""

from __future__ import annotations

import pytest
from tests.faults.cluster import Stage
from tests.faults.run import run

COMMON = ('kill the leader', 'stop until others own all', 'wake while being evicted', 'weights in a loop')
SHORT = {
    'sqlite': (*COMMON, 'restored with its identity', 'token rows deleted'),
    'postgresql': (*COMMON, 'half of a line', 'the store killed', 'a node row deleted'),
    'redis': (*COMMON, 'half of a line', 'the store killed', 'flushed'),
    'etcd': (*COMMON, 'half of a line', 'the store killed', 'restored with its identity'),
}
BEGIN_SEC, SETTLE_SEC = 4.0, 10.0
"""When the last fault begins at latest, and how long the cluster has to become whole after each."""

TRIES = 2


@pytest.mark.slow
@pytest.mark.parametrize('store', SHORT)
def test_nothing_has_two_owners(store: str) -> None:
    """Whatever goes wrong, no token is owned by two processes, or answered True by two, and no task is done twice at once.

    What the workers did is a trace that the specification accepts, and it refuses each mutation of that trace. If the trace alone
    is refused, another run decides: of calls at one time the search for their order does not try every one.
    """
    said: list[str] = []
    stage, names = Stage(workers=3, tasks=10), SHORT[store]
    for _ in range(TRIES):
        report = run(store, 1, BEGIN_SEC, stage=stage, names=names, most=2, settle_sec=SETTLE_SEC, say=said.append)
        if report.is_right or not report.is_sound:
            break
    assert report.parts
    assert report.is_right, '\n'.join((*said, *report.details, str(report.trace)))
    assert report.trace.mutated
