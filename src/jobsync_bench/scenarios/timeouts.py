"""Kills of real processes where no other process can know of it: the timeout decides."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from jobsync_bench.bench import Bench
from jobsync_bench.churn import ChurnCluster, ChurnOutcome
from jobsync_bench.figures import Figure, Unit
from jobsync_bench.scenario import Needs, Scenario
from jobsync_bench.scenarios.events import FIGURES, Limit, calls_of, record_events, set_beside
from jobsync_bench.targets import Pick, Target

__all__ = ['EVENT', 'SCENARIO']

EVENT = 'kill'
_NODES = 3
_CLUSTERS, _KILLS = 8, 4
_LEASE_SEC = 13.5
"""The default of ``heartbeat_timeout_sec``, less ``lease_margin``: a killed worker's lease may run for so long after the kill."""


def play(bench: Bench) -> None:
    """See ``SCENARIO``."""
    if bench.quick:
        return
    call_sec = calls_of(bench)

    def others() -> None:
        for figure in FIGURES:
            bench.record_baselines(figure, EVENT)

    def events(number: int) -> Iterator[tuple[str, ChurnOutcome]]:
        place = {'backend': bench.store.url, 'appname': bench.store.namespace(), 'known_death': False}
        with ChurnCluster(place, ('calm',), check=bench.check) as cluster:
            cluster.form(_NODES)
            for turn in range(number, number + _KILLS):
                yield EVENT, cluster.kill_leader() if turn % 2 else cluster.kill_follower()
                cluster.join()

    with bench.alongside(others):
        record_events(bench, [partial(events, number) for number in range(_CLUSTERS)], {EVENT: Limit(2, _LEASE_SEC)}, call_sec)
    set_beside(bench)


SCENARIO = Scenario(
    name='timeouts',
    title='Being killed where no other worker knows',
    means="""
        How long the tasks of a killed worker have no owner where no other worker of its user runs on its host, or the whole host
        is gone. Eight clusters of three workers, side by side: in each, followers and leaders are killed in turns, with
        known_death=False. All other settings are the defaults. All stores are measured at once.
    """,
    bounds="""
        A dead worker cannot be distinguished from a slow one before its lease is over: "the limit" is the longest lease, 13.5 s
        (heartbeat_timeout_sec less lease_margin), and two calls of the store. Then the leader waits for the rest of the 15
        seconds, by its own clock, from its reading of the last heartbeat. The workers' logs add up to 0.4 s, because they ask
        five times a second only.
    """,
    figures=(
        Figure('settled', Unit.SECONDS, 'From the kill until every token has one owner and all shares are even.', tail=True),
        Figure(
            'unowned', Unit.SECONDS, 'The longest time that a token was seen without an owner; up to 0.4 s too long.', tail=True
        ),
        Figure(
            'owned by two', Unit.COUNT, 'Tokens, of the thousand, that two workers certainly owned at one instant.', tail=True
        ),
        Figure(
            'other load', Unit.CORES, 'Cores that other programs, or other guests of the host, used during the event.', tail=True
        ),
    ),
    play=play,
    needs=Needs.PROCESSES,
    at_once=4,
    targets=(
        Target(
            'SIGKILL where deaths are not known, the longest gap, 99th percentile (timeout 15 s)',
            Pick('unowned', case=EVENT, statistic='p99'),
            at_most=16.0,
        ),
        Target('tokens owned by two after the timeout', Pick('owned by two', statistic='most'), at_most=0),
    ),
)
