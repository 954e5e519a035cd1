"""Mutants of a handle that threads share, that is called after its end, and that a fork copies."""

# ruff: noqa: D102 - what a method of the protocol does, the protocol says

from __future__ import annotations

import contextlib
import datetime as dt
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import IO, ClassVar

import attrs
from jobsync_files.backend import FilesTransaction
from tests.backends.mutants.base import Hands, mutant
from tests.backends.mutants.files import OnFiles
from tests.backends.mutants.overlapping import Overlapping

from jobsync.backend import NodeRef, Unclaimed
from jobsync.backends.memory.backend import MemoryTransaction
from jobsync.errors import BackendUnavailable


@mutant
class OpensAgainAfterClose(Hands):
    """A call that comes after ``close`` opens a connection again, which stays open."""

    open_files: ClassVar[set[IO[bytes]]] = set()
    _connection: IO[bytes] | None = None

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        if self._connection is None:
            self._connection = Path('/dev/null').open('rb')  # noqa: SIM115 - which is what it lacks
            self.open_files.add(self._connection)
        with super().transaction(bulk=bulk, create=create) as tx:
            yield tx

    def close(self) -> None:
        super().close()
        if self._connection is not None:
            self.open_files.discard(self._connection)
            self._connection.close()
            self._connection = None


@mutant
class TenCallsAtATime(Hands):
    """Has ten connections, and fails a call at once that finds them all in use."""

    races = True

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._connections = threading.Semaphore(10)

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[MemoryTransaction]:
        if not self._connections.acquire(blocking=False):
            raise BackendUnavailable('all connections are in use')
        try:
            self.let_others_call()
            with super().transaction(bulk=bulk, create=create) as tx:
                yield tx
        finally:
            self._connections.release()


@mutant
class InsertsADuplicate(Overlapping):
    """Finds that an item has no audit, and inserts one a moment later: where another call has, the key is there already."""

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        before = {item for item in items if (item, date, node) in self.records.audits}
        self.let_others_call()
        with self.store.changed:
            if any((item, date, node) in self.records.audits for item in items if item not in before):
                raise BackendUnavailable('duplicate key')
            super().append_audits(node, items, date)


@mutant
class DeadlocksByOrder(Overlapping):
    """Locks the rows of claims in the order of the items: of two calls in opposite orders the store ends one with an error."""

    rows: ClassVar[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None) -> Unclaimed:
        ends = [items[0], items[-1]] if items and items[0] != items[-1] else []
        with contextlib.ExitStack() as held:
            for item in ends:
                if not self.rows[item].acquire(timeout=0.1):
                    raise BackendUnavailable('deadlock detected')
                held.callback(self.rows[item].release)
                self.let_others_call()
            return super().append_claims(ref, items, date, tolerated)


@mutant
class WaitLeavesAThread(Hands):
    """A wait begins to listen in a thread of its own, which goes on until the timeout though the wait has ended."""

    def wait(self, revision: int, timeout: float) -> int:
        threading.Thread(target=self._closed.wait, args=(timeout,), daemon=True).start()
        return super().wait(revision, timeout)


@mutant
class WaitsInTurn(Hands):
    """Of several waits one listens, and each other one begins once that has ended: a node learns late what another has read."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._turn = threading.Lock()

    def wait(self, revision: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        if not self._turn.acquire(timeout=timeout):
            return revision
        try:
            return super().wait(revision, max(0.0, deadline - time.monotonic()))
        finally:
            self._turn.release()


STATE = Random()
"""A generator of a module, which a fork copies."""


@mutant
class StampsOfAFork(OnFiles):
    """Draws stamps from a generator with a state, which a fork copies: two workers of one program draw the same."""

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[FilesTransaction]:
        with super().transaction(bulk=bulk, create=create) as tx:
            tx.context = attrs.evolve(tx.context, random=STATE)
            yield tx


@mutant
class ClosesForItsParent(OnFiles):
    """``close`` ends the session that its handle has at the server, also in a forked child, whose parent has the same one."""

    _session: str | None = None

    @contextlib.contextmanager
    def transaction(self, *, bulk: bool = False, create: bool = False) -> Iterator[FilesTransaction]:
        if self._session is None:
            handle, self._session = tempfile.mkstemp(prefix='jobsync-session-')
            os.close(handle)
        if not Path(self._session).exists():
            raise BackendUnavailable('the server has ended the session')
        with super().transaction(bulk=bulk, create=create) as tx:
            yield tx

    def close(self) -> None:
        super().close()
        if self._session is not None:
            Path(self._session).unlink(missing_ok=True)
