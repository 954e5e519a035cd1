"""Baselines of joins, leaves and kills: the peer's workers on the same PostgreSQL, and tooz's on the same Redis or etcd."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from tests.support.servers import EtcdServer, RedisServer

from benchmarks.baselines.offering import ROLE, Offer, Slots, admitted, postgres_of
from benchmarks.libraries.environments import python_of
from benchmarks.libraries.peer import settings
from benchmarks.libraries.tooz_group import Group, tooz_url
from benchmarks.libraries.tooz_group import admitted as admitted_to_redis
from benchmarks.places import ServedStore
from jobsync_bench.bench import Bench, Party
from jobsync_bench.churn import ChurnCluster, ChurnOutcome
from jobsync_bench.scenarios.events import FIGURES
from jobsync_bench.scenarios.takeover import played
from jobsync_bench.scenarios.timeouts import EVENT

__all__ = ['OFFERS']

_TOOZ_ROUNDS, _WATCH_SEC = 10, 1.0
Values = dict[tuple[str, str], list[float]]
"""Values by figure and case."""


@contextmanager
def peers(slots: Slots) -> Iterator[Values]:
    """Yield the values of one round of events with the peer's workers, or of two kills where only these are measured."""
    bench, python, server = slots.bench, str(python_of('peer')), postgres_of(slots.bench)
    assert server is not None
    values: Values = defaultdict(list)
    with ChurnCluster(settings(admitted(server, ROLE), ROLE), python=python, check=bench.check) as cluster:
        for event, outcome in killed(cluster) if bench.scenario.name == 'timeouts' else played(cluster, 1):
            bench.say(f'peer: {event}: settled after {outcome.settled_sec:.2f} s')
            for figure, of in FIGURES.items():
                values[figure, event].append(of(outcome))
    yield values


def killed(cluster: ChurnCluster) -> Iterator[tuple[str, ChurnOutcome]]:
    """Form a cluster, and yield the outcomes of the kills of a follower and of the leader."""
    cluster.form(3)
    yield EVENT, cluster.kill_follower()
    yield EVENT, cluster.kill_leader()


def url_for_tooz(bench: Bench) -> str | None:
    """Return tooz's URL for the store of the bench; None if tooz does not support the store."""
    server = bench.store.server if isinstance(bench.store, ServedStore) else None
    if isinstance(server, RedisServer):
        return admitted_to_redis(server)
    return tooz_url(server) if isinstance(server, EtcdServer) else None


@contextmanager
def members(slots: Slots, url: str) -> Iterator[Values]:
    """Yield the values of tooz's members, which read the membership every second."""
    python_of('tooz')
    values: Values = defaultdict(list)
    with ExitStack() as stack:
        group = Group(stack, url, _WATCH_SEC)
        for _ in range(_TOOZ_ROUNDS):
            slots.bench.check()
            join, leave = group.come_and_go()
            values['settled', 'join'].append(join)
            values['settled', 'leave'].append(leave)
            values['unowned', 'leave'].append(leave)
    yield values


def measured(slots: Slots) -> tuple[str, Values] | None:
    """Return the party that can be measured on this store, with its values."""
    if slots.bench.quick:
        return None
    if postgres_of(slots.bench) is not None:
        return 'peer', slots.have('peer', '', lambda: peers(slots))
    if slots.bench.scenario.name == 'takeover' and (url := url_for_tooz(slots.bench)) is not None:
        return 'tooz, looking every second', slots.have('tooz', '', lambda: members(slots, url))
    return None


def offer_for(figure: str) -> Offer:
    """Offer the values of one figure."""

    def offer(slots: Slots, case: str) -> Mapping[str, Party]:
        found = measured(slots)
        if found is None or not (values := found[1].get((figure, case))):
            return {}
        return {found[0]: Party(partial(next, iter(values)), times=len(values))}

    return offer


OFFERS: dict[tuple[str, str], tuple[Offer, ...]] = {
    (scenario, figure): (offer_for(figure),) for scenario in ('takeover', 'timeouts') for figure in FIGURES
}
