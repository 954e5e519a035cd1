"""Scenes of ``rolling.py``: two kinds of rolling restart, and a node that joins and leaves all the time."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from benchmarks.rolling_cluster import RollingCluster
from benchmarks.rolling_verdict import Figures, passes
from benchmarks.rolling_worker import READ_SEC, Load, work
from jobsync import Job
from jobsync._core.leader.admission import HELD_SEC
from jobsync.testing.worker_log import LogWriter, log_tokens, now

__all__ = ['SCENES', 'RollingOutcome', 'RollingRestart', 'flap']

_GRACE_SEC = 30.0
_PERIOD_SEC = 1.0
Say = Callable[[str], None]


@attrs.frozen
class RollingOutcome:
    """The outcome of a scene."""

    figures: Figures
    moved: float
    """Tokens that passed to another node, as a multiple of the pool."""
    commits: int
    faults: Sequence[str]
    stop_sec: float = 0.0
    """From SIGTERM to the end of the process; the longest."""
    back_sec: float = 0.0
    """From SIGTERM until the successor has entered; the median."""


@attrs.frozen
class RollingRestart:
    """A rolling restart. ``new_names``: the successor has another name, and its predecessor is stopped when it has entered."""

    new_names: bool

    @property
    def settings(self) -> dict[str, Any]:
        """Further arguments of ``CoordinationConfig``."""
        return {} if self.new_names else {'rejoin_grace_sec': _GRACE_SEC}

    def play(self, cluster: RollingCluster, workers: int, between_sec: float, say: Say) -> RollingOutcome:
        """Replace every worker, the oldest first."""
        cluster.form([f'w{number:02}' for number in range(workers)])
        if self.new_names:
            time.sleep(HELD_SEC)  # workers that are replaced have been there for a while
        commits, stops, backs = cluster.commits(), [], []
        for number, old in enumerate(list(cluster.workers)):
            if self.new_names:
                new = cluster.start(f'w{workers + number:02}')
                cluster.wait_until(partial(new.has, 'entered'), f'{new.run} has entered')
                time.sleep(between_sec)
                began = now()
                stops.append(cluster.stop(old))
            else:
                began = now()
                stops.append(cluster.stop(old))
                new = cluster.start(old.node)
            cluster.wait_until(partial(new.has, 'entered'), f'{new.run} has entered')
            backs.append(now() - began)
            say(f'  {old.run} stopped in {stops[-1]:.2f} s, {new.run} in after {backs[-1]:.2f} s, {cluster.moved():.2f} moved')
        figures = cluster.end()
        return RollingOutcome(
            figures,
            cluster.moved_in_time,
            cluster.commits() - commits,
            tuple(cluster.faults),
            max(stops),
            statistics.median(backs),
        )


SCENES = {
    'stable names': RollingRestart(new_names=False),
    'new names': RollingRestart(new_names=True),
}


def flap(cluster: RollingCluster, workers: int, seconds: float, say: Say) -> RollingOutcome:
    """Let a worker join and leave every second while the others stay."""
    names = [f'w{number:02}' for number in range(workers)]
    cluster.form(names)
    commits, began = cluster.commits(), now()
    stays = 0
    while now() - began < seconds:
        start = now()
        job = Job('flapper', coordination_config=cluster.config, wait_on_enter=10)
        order, over = cluster.order('flapper', f'flapper.{stays:02}'), threading.Event()
        log = LogWriter(cluster.folder / f'{order.run}.log')
        log.write('start', node=order.node, pid=os.getpid())
        reading = threading.Thread(target=log_tokens, args=(job, log, READ_SEC, over))
        working = threading.Thread(target=work, args=(job, Load(order), log))
        reading.start()
        with job:
            entered, share = now(), len(job.my_tokens)
            working.start()
            time.sleep(_PERIOD_SEC / 2)
        over.set()
        working.join()
        reading.join()
        stays += 1
        say(f'  stay {stays}: in after {entered - start:.2f} s with {share} tokens, {cluster.moved():.2f} moved')
        time.sleep(max(0.0, start + _PERIOD_SEC - now()))
    lasted = now() - began
    figures = cluster.end()
    moves = Counter(passes(cluster.logs(), cluster.until))
    aside = sum(count for (one, other), count in moves.items() if one in names and other in names)
    made = cluster.commits() - commits
    pool, fair = cluster.config.total_tokens, cluster.config.total_tokens // (workers + 1)
    most = 2 * fair * stays / pool
    say(f'  {stays} stays in {lasted:.0f} s, {60 * made / lasted:.0f} commits a minute ({made / stays:.1f} a stay)')
    say(f'  moved {cluster.moved_in_time:.2f} x pool; balance demands {most:.2f}; between the others {aside} tokens')
    return RollingOutcome(figures, cluster.moved_in_time, made, tuple(cluster.faults))
