"""Waiting for a new revision: a watch of the state, which is opened anew whenever it ends.

python-etcd3's own watcher does not resume after a disconnection, and keeps a core busy while the server is away.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import grpc

from jobsync._threads import start
from jobsync.backend import EventLogger
from jobsync.backends._common.abandon import abandon
from jobsync.backends._common.backoff import Backoff
from jobsync.backends._common.concerned import Concerned, read_announcement
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends._common.listening import POLL_SEC
from jobsync.backends.etcd.connection import EtcdConnection
from jobsync.backends.etcd.keys import EtcdKeys
from jobsync.backends.etcd.protos import MESSAGES
from jobsync.backends.etcd.state import state_of
from jobsync.errors import JobsyncError

__all__ = ['Watcher']

log = EventLogger('jobsync.backends.etcd')
STARTING_SEC = 1.0
"""How long the thread may take to start. ``close`` waits for that."""
LOGGED_REFUSAL = 3
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
"""How a watch ends whose server is gone, or whose channel was closed here."""


class Watcher:
    """The watch of one backend, with a thread that begins with the first wait. Thread-safe."""

    def __init__(self, connection: EtcdConnection, keys: EtcdKeys, op_timeout_sec: float) -> None:
        self._connection = connection
        self._keys = keys
        self._op_timeout_sec = op_timeout_sec
        self._stream: Any = None
        self._is_closed = False
        self._set_up()
        forget_in_child(self)

    def _set_up(self) -> None:
        # A block on the condition itself enters and leaves it by functions of Python: an exception from outside that came there
        # would leave the lock taken for good, and the watch with it. A block on the lock is begun and ended in one step each.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._newest: int | None = None
        """The revision's number; None while it is not known, because no watch is open."""
        self._refusals = 0
        """How often in a row a server that answers has ended a watch before it had begun."""
        self._concerned = Concerned()

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        with self._lock:
            if not self._is_closed and (self._thread is None or not self._thread.is_alive()):
                self._start_thread()
            self._changed.wait_for(lambda: self._is_closed or (self._newest is not None and self._newest > revision), timeout)
            newest = revision if self._newest is None else self._newest
            return self._concerned.hint(newest or max(0, revision), revision)  # 0: the state is deleted, or cannot be read

    def _start_thread(self) -> None:
        """Start the thread. Raise ``RuntimeError`` if the process can start none now: the next ``wait`` tries again."""
        # t=0  there is no memory for the first step of the thread, or for one in the midst of its work: it ends
        # t=1  every later ``wait`` would wait for its whole time. ``Thread.start`` even waits for ever, and so does ``close``
        thread = self._thread = threading.Thread(target=self._run, name='etcd-watch', daemon=True)
        if not start(lambda: thread, STARTING_SEC):
            self._thread = None  # one that starts later ends at once
            raise RuntimeError("can't start new thread for a watch of etcd's")

    def close(self) -> None:
        """Wake every ``wait``, and end the watch."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
            if self._stream is not None:
                self._stream.cancel()

    def forget(self) -> None:
        """See ``Forgetful``: a forked child has no thread."""
        abandon(self._stream)
        self._stream = None
        self._set_up()

    def _run(self) -> None:
        backoff, failures = Backoff(), 0
        while not self._is_closed and self._thread is threading.current_thread():
            with contextlib.suppress(Exception):  # a second error, while the first is logged
                try:
                    if self._follow():
                        backoff.reset()
                        failures = self._refusals = 0
                except JobsyncError:
                    pass  # an outage, or a refusal after a change of users or rights: the node logs it of its own calls
                except Exception:  # such as what gRPC raises when it can start no thread for the stream
                    failures += 1
                    if failures & (failures - 1) == 0 and not self._is_closed:  # each has a traceback
                        log.exception('a watch could not be opened, or ended by an error (failure %d in a row)', failures)
            with self._lock:
                self._stream, self._newest = None, None
                if not self._is_closed:
                    # A server that answers and has no watch for us is polled: the state was read a moment ago.
                    self._changed.wait(min(backoff.next_sec(), POLL_SEC) if self._refusals else backoff.next_sec())

    def _follow(self) -> bool:
        """Notify waiting threads of changes until the watch ends; return whether the watch had begun."""
        deadline = time.monotonic() + self._op_timeout_sec
        answer = self._connection.read('KV.Range', MESSAGES['RangeRequest'](key=self._keys.state), deadline)
        self._notify(answer.kvs)
        # t=0  the state is read at etcd's revision 100
        # t=1  another node changes the state, at revision 101
        # t=2  the watch begins
        # So the watch is from revision 101 on, and brings the change of t=1.
        start, end = answer.header.revision + 1, self._keys.concerned + b'\0'
        create = MESSAGES['WatchCreateRequest'](key=self._keys.state, range_end=end, start_revision=start)
        began, refusal, channel = False, '', self._connection.proven(deadline)
        with channel.watch(MESSAGES['WatchRequest'](create_request=create), deadline) as stream:
            with self._lock:
                if self._is_closed:
                    return False
                self._stream = stream
            try:
                for response in stream:
                    if response.canceled:  # the revision is compacted already, or the token has expired
                        refusal = response.cancel_reason
                        break
                    began = True
                    self._notify(event.kv for event in response.events)
            except grpc.RpcError as error:
                refusal = '' if error.code() in LOST else str(error.details())
        if not began and not self._is_closed:
            self._note_refusal(channel.name, refusal)
        return began

    def _note_refusal(self, server: str, refusal: str) -> None:
        """Note that a watch has not begun; '' if its server is gone."""
        self._refusals = self._refusals + 1 if refusal else 0
        # The first one may be that of a token from before a change of users, or of a compaction at that very moment.
        if self._refusals == LOGGED_REFUSAL:
            log.info(
                'etcd at %s ends each watch (%s), as its grpc-proxy does: polling every %g s instead', server, refusal, POLL_SEC
            )

    def _notify(self, written: Iterable[Any]) -> None:
        """Take the values that were written, of the state (none if it is deleted) and of what its changes concern."""
        values = list(written)
        # The two keys are written by one transaction, and a watch never splits what one transaction has written.
        concerned = dict(_announced(found.value) for found in values if found.key == self._keys.concerned)
        with self._lock:
            self._newest = self._newest or 0
            for found in values:
                if found.key == self._keys.state:
                    self._newest = 0
                    with contextlib.suppress(JobsyncError):
                        self._newest = state_of(found.value).revision.number
                        self._concerned.note(self._newest, concerned.get(self._newest))
            self._changed.notify_all()


def _announced(value: bytes) -> tuple[int, frozenset[str] | None]:
    """Return the revision and the nodes that it concerns; of a value that cannot be read, a revision that there never is."""
    try:
        return read_announcement(value.decode(errors='replace'))
    except ValueError:
        return 0, None
