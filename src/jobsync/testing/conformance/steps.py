"""A process that is stopped or killed in the middle of a write: before any call of a function that the write makes."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from random import Random
from types import FrameType, TracebackType

from jobsync.backend import INITIAL, Backend, NodeRef, Revision, TokenGroup, TokenRow
from jobsync.errors import BackendUnavailable, Conflict
from jobsync.testing.conformance.namespace import TOKENS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['COMMON', 'Ledger', 'Steps', 'audit', 'kill', 'read_everything', 'spread', 'stop', 'stopped']

COMMON = NodeRef('common', 'run')
"""The leader that all processes commit as."""


def stop() -> None:
    """Stop this process until another lets it go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def kill() -> None:
    """Kill this process without notice."""
    os.kill(os.getpid(), signal.SIGKILL)


class Steps:
    """Count the calls that a ``with`` block makes in this thread, and do something just before one of them."""

    def __init__(self, at: int = 0, action: Callable[[], None] = stop) -> None:
        self.count = 0
        self._at, self._action = at, action

    def _step(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in ('call', 'c_call'):
            self.count += 1
            if self.count == self._at:
                self._action()

    def __enter__(self) -> Steps:
        sys.setprofile(self._step)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        sys.setprofile(None)


def stopped(pid: int, is_over: Callable[[], bool]) -> bool:
    """Wait until a child has stopped itself; False if its work is over before."""
    deadline = time.monotonic() + DEADLINE_SEC
    while time.monotonic() < deadline:
        found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        if found is not None:
            return True
        if is_over():
            return False
        time.sleep(0.001)
    raise AssertionError(f'process {pid} has neither stopped nor ended its work after {DEADLINE_SEC} s')


class Ledger:
    """Writes that a test has made, by what came of them; each commit hands all tokens to a name of its own."""

    def __init__(self) -> None:
        self.commits: dict[int, Revision] = {}
        """Acknowledged, by number."""
        self.audits: set[str] = set()
        """Acknowledged."""
        self.unknown: set[int | str] = set()
        """Unanswered, or answered by ``BackendUnavailable``."""

    @staticmethod
    def commit(backend: Backend, number: int) -> Callable[[], Revision]:
        """Return a commit of everything to one name, planned from the present state."""
        namespace, name = Namespace(backend), f'v{number}'
        plan, guard = namespace.plan(TokenGroup(range(TOKENS), name, name, name), moved=number), namespace.guard()
        return lambda: backend.commit(COMMON, plan, guard)

    def note(self, what: str, number: int, result: object) -> None:
        """Note what came of a write: what it returned, or the error that it raised."""
        name: int | str = number if what == 'commit' else f'item {number}'
        self.unknown.discard(name)
        if isinstance(result, BackendUnavailable):
            self.unknown.add(name)
        elif isinstance(result, Revision):
            self.commits[number] = result
        elif isinstance(name, str):
            self.audits.add(name)

    def told(self, pipe: Connection) -> int | None:
        """Note all that a process has told of its writes; return what it came to, if it ended by itself."""
        with contextlib.suppress(EOFError):
            while pipe.poll(DEADLINE_SEC):
                found = pipe.recv()
                if isinstance(found, int):
                    return found
                result, what, number = found
                self.note(what, number, BackendUnavailable() if result == 'tried' else result)
        return None

    def go_on(self, backend: Backend, observer: NodeRef, numbers: Iterator[int], seconds: float) -> None:
        """Read and write while another process is stopped, until a commit and an audit went through or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(BackendUnavailable):
                read_everything(backend, observer)
                for what in ('commit', 'audit'):
                    number = next(numbers)
                    call = self.commit(backend, number) if what == 'commit' else partial(audit, backend, number)
                    try:
                        result: object = call()
                    except (BackendUnavailable, Conflict) as error:
                        result = error
                    self.note(what, number, result)
                return

    def check(self, namespace: Namespace) -> None:
        """Whatever was acknowledged must be there once, and nothing else that is not unknown; the state is that of one commit."""
        state = namespace.state()
        recorded = [record.tokens_moved for record in state.rebalances]
        assert len(recorded) == len(set(recorded)), f'commits recorded twice: {sorted(recorded)}'
        lost = self.commits.keys() - set(recorded)
        assert not lost, f'commits {sorted(lost)} were acknowledged and are lost; there are {sorted(recorded)}'
        uncalled = set(recorded) - self.commits.keys() - self.unknown
        assert not uncalled, f'commits {uncalled} were refused and are there'
        found = {audit.item for audit in state.audits}
        assert self.audits <= found, f'audits {sorted(self.audits - found)} were acknowledged and are lost'
        assert found <= self.audits | {item for item in self.unknown if isinstance(item, str)}
        common = next(node for node in state.snapshot.nodes if node.name == COMMON.name)
        assert common.heartbeat == len(recorded), 'the leader counts its commits'
        assert state.snapshot.version == namespace.backend.read_assignment().version
        if recorded:
            (row,) = set(state.rows)
            assert row == TokenRow(row.owner, row.owner, row.owner, row.version)
            assert row.owner in {f'v{number}' for number in recorded}
        if self.commits:
            number, newest = max(self.commits.items(), key=lambda item: item[1].number)
            assert state.snapshot.version.number >= newest.number
            if state.snapshot.version == newest:
                assert state.rows[0].owner == f'v{number}'


def audit(backend: Backend, number: int) -> None:
    """Record that an item of this number is complete."""
    backend.append_audits('a', [f'item {number}'], dt.date(2026, 3, 2))


def read_everything(backend: Backend, observer: NodeRef) -> None:
    """Whatever is read in the middle of another's write must be one state, and no older than what was read before it."""
    before = backend.snapshot().version
    assignment = Namespace(backend).assignment()
    assert assignment.version.number >= before.number
    assert len({assignment.row(token) for token in range(TOKENS)}) == 1
    pulse = backend.heartbeat(observer, INITIAL, frozenset())
    assert pulse.version.number >= assignment.version.number


def spread(random: Random, calls: int, count: int) -> Iterator[int]:
    """Yield places in a number of calls, one in each of ``count`` parts."""
    for part in range(count):
        yield 1 + int((part + random.random()) * calls / count)
