"""A thread that reads a cluster once a second for all who follow it, while any does."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from jobsync._cluster.reading import ClusterReading
from jobsync._cluster.settings import fewest_attempts
from jobsync._threads import start
from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError
from jobsync.rows import RebalanceRow
from jobsync.web.frame import INCOMPLETE_SEC, Backlog, Frame, as_json, frame_of

__all__ = ['Feed']

_log = logging.getLogger('jobsync.web')

_EVERY_SEC = 1.0
"""How often the store is read. So many readers cost the store as much as one."""
_BACKLOG_SEC, _BACKLOG_SHARE = 10.0, 20
"""How often tasks begun and not complete are read, and what part of the time that may take at most, since there may be many."""
_TOGETHER_SEC = 1.0
"""How long a frame waits for them. With what takes longer, the frame after it shows them."""
_IDLE_SEC = 5.0
"""How long the thread goes on after the last request."""
_STEP_SEC = 0.1
"""How soon a follower notices a new frame."""
_QUIET_SEC = 1.5
"""After how long without a frame a browser is sent the age of the last one."""
_WAIT_SEC = 7.0
"""How long a request waits for a frame before it is answered with an older one, or none: less than the 10 s after which
Prometheus gives up a scrape, which would hide ``jobsync_cluster_up 0``."""
_STARTING_SEC = 1.0
"""How long the thread may take to start: the event loop, with all other requests, waits for that."""
_REBALANCES = 40
_BACKLOG = 'quarantined and incomplete tasks'
_UNREAD = Backlog(problem=f'{_BACKLOG} are not read yet', is_quarantine_read=False)


class Feed:
    """The newest frame of a cluster, for requests of one event loop."""

    def __init__(self, connect: Callable[[], Cluster], about: Mapping[str, Any]) -> None:
        """Store how to connect: nothing is reached before the first request."""
        self._connect = connect
        self._about = about
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._thread: threading.Thread | None = None
        self._wanted_at = -math.inf
        self._closing = threading.Event()
        self._latest: tuple[float, Frame | None, str | None] = (-math.inf, None, None)
        self._rebalances: tuple[object, Sequence[RebalanceRow]] = (None, ())
        self._backlog, self._backlog_due = _UNREAD, -math.inf
        self._backlog_thread: threading.Thread | None = None
        self._changes = self._changes_read = 0
        """How often an operator has changed something, and how often when the reading of the backlog began."""

    # --- for requests -------------------------------------------------------------------------------------------------------

    async def recent(self) -> tuple[Frame | None, str | None]:
        """Return a frame that is at most a second old and None, or the last frame and why there is no newer one."""
        started = time.monotonic()
        while time.monotonic() < started + _WAIT_SEC and not self._closing.is_set():
            self._want()
            read_at, frame, error = self._latest
            if read_at >= started - _EVERY_SEC:
                return frame, error
            await asyncio.sleep(_STEP_SEC / 2)
        _, frame, error = self._latest
        return frame, error or f'the store has not answered for {_WAIT_SEC:g} s'

    async def events(self) -> AsyncIterator[tuple[str, str]]:
        """Yield the frame, then what changes, as names of events and their data; and how old the frame is, where it ages."""
        sent: Frame | None = None
        sent_at = time.monotonic()
        while not self._closing.is_set():
            self._want()
            (_, frame, _), now = self._latest, time.monotonic()
            if frame is not None and frame is not sent:
                yield ('state', frame.text()) if sent is None else ('change', frame.since(sent))
                sent, sent_at = frame, frame.read_at  # of a store that is slow or away, it was old when it was sent
            if now >= sent_at + _QUIET_SEC:
                yield 'age', self.age()
                sent_at = now
            await asyncio.sleep(_STEP_SEC)

    def age(self) -> str:
        """Return, as JSON, how many seconds old the last frame is, and why there is no newer one."""
        _, frame, error = self._latest
        return as_json({'age_sec': None if frame is None else round(time.monotonic() - frame.read_at, 1), 'error': error})

    def refresh(self) -> None:
        """Read everything anew at the next reading: an operator has changed something."""
        self._changes += 1

    def cluster(self) -> Cluster:
        """Return the cluster, connected at the first call."""
        with self._lock:
            if self._cluster is None:
                self._cluster = self._connect()
            return self._cluster

    def end(self) -> None:
        """End what followers receive, so that a server that is to go has nothing to wait for."""
        self._closing.set()

    def close(self) -> None:
        """End the thread, and close the connections."""
        self.end()
        with self._lock:
            thread, cluster = self._thread, self._cluster
        if thread is not None:
            thread.join(_EVERY_SEC)  # a call to a store that does not answer may take longer, and ends by itself
        if cluster is not None:
            cluster.close()

    def _want(self) -> None:
        with self._lock:
            self._wanted_at = time.monotonic()
            if not self._closing.is_set() and (self._thread is None or not self._thread.is_alive()):
                # t=0  there is no memory for the first step of the thread, or for one in the midst of its work: it ends
                # t=1  the page would show what was read last, for ever. ``Thread.start`` even waits for ever, in the event loop
                thread = self._thread = threading.Thread(target=self._run, name='jobsync-web-feed', daemon=True)
                if not start(lambda: thread, _STARTING_SEC):
                    self._thread = None  # one that starts later ends after a reading
                    raise RuntimeError("can't start new thread to read the cluster")

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            frame = self._latest[1]
            try:
                self._latest = started, self._read(started), None
            except JobsyncError as error:
                self._latest = started, frame, f'{type(error).__name__}: {error}'
            except Exception:  # noqa: BLE001 - the thread goes on: the page must not stay still for a record that it cannot show
                _log.exception('the page cannot show the cluster')
                self._latest = started, frame, 'an unexpected error: the log of the server has it'
            self._closing.wait(max(0.0, started + _EVERY_SEC - time.monotonic()))
            with self._lock:
                if self._thread is not threading.current_thread():
                    return
                if self._closing.is_set() or time.monotonic() > self._wanted_at + _IDLE_SEC:
                    self._thread = None
                    return

    def _read(self, now: float) -> Frame:
        cluster = self.cluster()
        reading = cluster._reader.read()
        version = reading.snapshot.timeline, reading.snapshot.version
        if self._rebalances[0] != version:
            self._rebalances = version, cluster.rebalances(_REBALANCES)
        self._keep_backlog(cluster, reading, now)
        about = {**self._about, 'appname': cluster.appname, 'store': cluster.info.name}
        return frame_of(reading, now, about, self._rebalances[1], self._backlog)

    def _keep_backlog(self, cluster: Cluster, reading: ClusterReading, now: float) -> None:
        """Have the backlog read in a thread of its own, if it is time to, and wait a moment for it."""
        # t=0  incomplete tasks are searched for in a long history, which takes a minute
        # t=7  Prometheus would be answered that the store does not answer, and a page would stand still
        if self._backlog_thread is None or not self._backlog_thread.is_alive():
            if now < self._backlog_due and self._changes == self._changes_read:
                return
            update = partial(self._update_backlog, cluster, reading, now)
            thread = self._backlog_thread = threading.Thread(target=update, name='jobsync-web-backlog', daemon=True)
            if not start(lambda: thread, _STARTING_SEC):
                return  # until the next frame
        self._backlog_thread.join(_TOGETHER_SEC)

    def _update_backlog(self, cluster: Cluster, reading: ClusterReading, now: float) -> None:
        # t=0  tasks in quarantine are read, of which there are many
        # t=1  an operator releases one: that is to show at the next reading, and not after this one's usual pause
        changes, before = self._changes, self._backlog
        self._backlog = self._read_backlog(cluster, reading)
        took = time.monotonic() - now
        # t=0   the store goes away amid this reading, which waits for it as long as a call may
        # t=60  the store is back: as a long reading this one would be repeated after 20 minutes, with a problem for so long
        is_first_failure = self._backlog.problem is not None and before.problem in (None, _UNREAD.problem)
        self._backlog_due = now + max(_BACKLOG_SEC, took if is_first_failure else _BACKLOG_SHARE * took)
        self._changes_read = changes

    def _read_backlog(self, cluster: Cluster, reading: ClusterReading) -> Backlog:
        """Return what is in quarantine and what is incomplete; what was before, with the reason, of what cannot be read.

        Of a very long history this alone may take longer than a call may.
        """
        attempts, today = fewest_attempts(reading), dt.date.today()
        found, what = attrs.evolve(self._backlog, is_quarantine_read=False), _BACKLOG
        try:
            quarantined = () if attempts is None else cluster.quarantined(attempts, today)
            found, what = Backlog(found.incomplete, quarantined, today), 'incomplete tasks'
            return attrs.evolve(found, incomplete=cluster.incomplete(older_than=INCOMPLETE_SEC))
        except JobsyncError as error:
            return attrs.evolve(found, problem=f'{what} cannot be read: {type(error).__name__}: {error}')
        except Exception:  # noqa: BLE001 - as in ``_run``
            _log.exception('the page cannot show the cluster')
            return attrs.evolve(found, problem=f'{what} cannot be read: the log of the server has an unexpected error')
