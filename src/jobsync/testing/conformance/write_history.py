"""The writes that a test has made, with the outcome of each, and the check of a store against them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from jobsync.backend import INITIAL, Backend, NodeRef, Revision, TokenGroup, TokenRow
from jobsync.errors import BackendUnavailable, Conflict
from jobsync.testing.conformance.namespace import DAY, TOKENS, Namespace
from jobsync.testing.conformance.threads import DEADLINE_SEC

__all__ = ['COMMON', 'WriteHistory', 'prepare']

COMMON = NodeRef('common', 'run')
"""The leader that all processes commit as."""


def prepare(what: str, backend: Backend, number: int) -> Callable[[], object]:
    """Return a ``commit`` or an ``audit`` that the number distinguishes from all others.

    A commit gives all tokens to a name of its own. It is planned from the present state.
    """
    if what == 'audit':
        return lambda: backend.append_audits('a', [f'item {number}'], DAY)
    namespace, name = Namespace(backend), f'v{number}'
    plan, guard = namespace.plan(TokenGroup(range(TOKENS), name, name, name), moved=number), namespace.guard()
    return lambda: backend.commit(COMMON, plan, guard)


class WriteHistory:
    """Writes by their outcome: acknowledged, or unknown. A refused write is in neither."""

    def __init__(self) -> None:
        self.commits: dict[int, Revision] = {}
        """Revisions of acknowledged commits by the number of the commit."""
        self.audits: set[str] = set()
        """Items of acknowledged audits."""
        self.unknown: set[int | str] = set()
        """Numbers of commits and items of audits without an answer, or with ``BackendUnavailable``."""

    def note(self, what: str, number: int, result: object) -> None:
        """Record the outcome of a write: its result, or the error that it raised."""
        name: int | str = number if what == 'commit' else f'item {number}'
        self.unknown.discard(name)
        if isinstance(result, BackendUnavailable):
            self.unknown.add(name)
        elif isinstance(result, Revision):
            self.commits[number] = result
        elif isinstance(name, str):
            self.audits.add(name)

    def receive(self, pipe: Connection) -> int | None:
        """Record all writes that a process reports; return the number that it sends last, None if it was killed before."""
        with contextlib.suppress(EOFError):
            while pipe.poll(DEADLINE_SEC):
                found = pipe.recv()
                if isinstance(found, int):
                    return found
                result, what, number = found
                self.note(what, number, BackendUnavailable() if result == 'tried' else result)
        return None

    def go_on(self, backend: Backend, observer: NodeRef, numbers: Iterator[int], seconds: float, versions: int = 0) -> None:
        """Read and write while another process is stopped, until a commit and an audit succeed or the time is over.

        Then send some heartbeats: a store may keep so many ``versions`` of a record, and give the number of an older one again.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(BackendUnavailable):
                read_everything(backend, observer)
                for what in ('commit', 'audit'):
                    number = next(numbers)
                    try:
                        result: object = prepare(what, backend, number)()
                    except (BackendUnavailable, Conflict) as error:
                        result = error
                    self.note(what, number, result)
                for _ in range(versions):
                    backend.heartbeat(observer, INITIAL, frozenset())
                return

    def check(self, namespace: Namespace) -> None:
        """Check that each acknowledged write is present once and no refused one is, and that the state is that of one commit."""
        state = namespace.state()
        recorded = [record.tokens_moved for record in state.rebalances]
        assert len(recorded) == len(set(recorded)), f'commits recorded twice: {sorted(recorded)}'
        lost = self.commits.keys() - set(recorded)
        assert not lost, f'commits {sorted(lost)} were acknowledged and are lost; there are {sorted(recorded)}'
        unexpected = set(recorded) - self.commits.keys() - self.unknown
        assert not unexpected, f'commits {unexpected} were refused and are there'
        found = {audit.item for audit in state.audits}
        assert self.audits <= found, f'audits {sorted(self.audits - found)} were acknowledged and are lost'
        assert found <= self.audits | {item for item in self.unknown if isinstance(item, str)}
        common = next(node for node in state.snapshot.nodes if node.name == COMMON.name)
        assert common.heartbeat == len(recorded), f'the heartbeat of the leader does not count its {len(recorded)} commits'
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


def read_everything(backend: Backend, observer: NodeRef) -> None:
    """Check that a reading in the middle of another process's write is one state, and no older than an earlier reading."""
    before = backend.snapshot().version
    assignment = Namespace(backend).assignment()
    assert assignment.version.number >= before.number
    assert len({assignment.row(token) for token in range(TOKENS)}) == 1
    pulse = backend.heartbeat(observer, INITIAL, frozenset())
    assert pulse.version.number >= assignment.version.number
