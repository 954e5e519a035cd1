"""Waiting for a new revision: a watch of the state, opened anew by us whenever it ends.

python-etcd3's own watcher does not resume after a disconnection, and keeps a core busy while the server is away.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

import grpc

from jobsync.backends.etcd.connection import Connection
from jobsync.backends.etcd.forks import abandon, forget_in_child
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.errors import JobsyncError

__all__ = ['Watcher']

FIRST_PAUSE_SEC = 0.2
"""After a watch has ended, before the next is opened; doubled each time, up to the longest."""
LONGEST_PAUSE_SEC = 2.0


class Watcher:
    """One per backend, with a thread that begins with the first wait. Thread-safe."""

    def __init__(self, connection: Connection, key: bytes, op_timeout_sec: float) -> None:
        self._connection = connection
        self._key = key
        self._op_timeout = op_timeout_sec
        self._stream: Any = None
        self._is_closed = False
        self._set_up()
        forget_in_child(self)

    def _set_up(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._newest: int | None = None
        """The revision's number, None while it is not known: the watch is not open."""

    def wait(self, revision: int, timeout_sec: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout_sec
        with self._changed:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name='etcd-watch', daemon=True)
                self._thread.start()
            while not self._is_closed:
                if self._newest is not None and self._newest > revision:
                    return self._newest
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return revision if self._newest is None else self._newest

    def close(self) -> None:
        """Wake whoever waits, and end the watch."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._stream is not None:
                self._stream.cancel()

    def forget(self) -> None:
        """In a forked child, which has no thread."""
        if self._stream is not None:
            abandon(self._stream)
            self._stream = None
        self._set_up()

    def _run(self) -> None:
        pause = FIRST_PAUSE_SEC
        while not self._is_closed:
            # It may well end without having told anything: then it is as good as gone.
            with contextlib.suppress(JobsyncError, grpc.RpcError, ValueError):
                if self._follow():
                    pause = FIRST_PAUSE_SEC
            with self._changed:
                self._stream, self._newest = None, None
                if not self._is_closed:
                    self._changed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SEC)

    def _follow(self) -> bool:
        """Tell of changes until the watch ends; whether it had begun."""
        deadline = time.monotonic() + self._op_timeout
        answer = self._connection.read('KV.Range', MESSAGES['RangeRequest'](key=self._key), deadline)
        self._tell(answer.kvs)
        # From the very next change on: nothing is missed between the reading and the watch.
        create = MESSAGES['WatchCreateRequest'](key=self._key, start_revision=answer.header.revision + 1)
        link = self._connection.proven(deadline)
        began = False
        with link.stream('Watch.Watch', MESSAGES['WatchRequest'](create_request=create), deadline) as stream:
            with self._changed:
                if self._is_closed:
                    return False
                self._stream = stream
            with contextlib.suppress(grpc.RpcError):
                for response in stream:
                    if response.canceled:  # the revision is compacted already, or the token has expired
                        break
                    began = True
                    self._tell(event.kv for event in response.events)
        return began

    def _tell(self, values: Any) -> None:
        """Of the newest of some values of the state. A key that was deleted has none."""
        with self._changed:
            for found in values:
                try:
                    self._newest = json.loads(found.value)['revision'][0]
                except (ValueError, LookupError, TypeError):
                    self._newest = 0
            if self._newest is None:
                self._newest = 0
            self._changed.notify_all()
