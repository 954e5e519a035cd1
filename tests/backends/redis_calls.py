"""Every call that a node makes, for tests of what it takes on a Redis server."""

from __future__ import annotations

import datetime as dt
import re
import threading
from importlib import resources

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import HistoryKind, LockEdit, LockFilter, NodeRef, Pin
from jobsync.backend import Backend
from jobsync.testing.conformance.namespace import TOKENS, Namespace, purged

__all__ = ['DAY', 'Waiting', 'everything', 'listed_commands']

DAY = dt.date(2026, 3, 2)


def everything(backend: Backend) -> NodeRef:
    """Call every method, each with something to do."""
    namespace = Namespace(backend)
    leader = namespace.leader()
    left, dead = namespace.join('left'), namespace.join('dead')
    backend.deregister(left)
    backend.remove_node(namespace.join('removed'))
    namespace.beat(leader, namespace.revision, {1, 2})
    namespace.lock('x', 'y')
    backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset({'y'}))))
    namespace.commit(leader, TokenGroup(range(9), 'a'), pins=(Pin(TOKENS + 1, 'x', 'a'),), moved=9)
    namespace.evict(leader, dead)
    namespace.commit(leader, TokenGroup([1], 'b'), departed=(left,), unpinned=frozenset({TOKENS + 1}))
    backend.append_claims(leader, ['x', 'y'], DAY)
    backend.append_audits('leader', ['x'], DAY)
    backend.incomplete(DAY, dt.timedelta(0))
    backend.incomplete(None, dt.timedelta(0))
    backend.history(HistoryKind.CLAIM, item='x')
    namespace.state()
    for kind in HistoryKind:
        backend.history(kind, date=DAY)
        purged(backend, kind, backend.snapshot().now + dt.timedelta(hours=1))
    backend.renew_timeline(namespace.timeline, 0)
    namespace.timeline = backend.snapshot().timeline
    assert backend.wait(0, 10.0) > 0
    return namespace.join('a')


def listed_commands() -> dict[str, int]:
    """The commands of which the scripts ask whether the user may give them, and with how many arguments they ask."""
    common = (resources.files('jobsync.backends.redis') / 'scripts' / 'common.lua').read_text(encoding='utf-8')
    listed = common[common.index('local COMMANDS') :].partition('}')[0]
    return {name: int(count) for name, count in re.findall(r'(\w+) = (\d)', listed)}


class Waiting:
    """A ``wait`` in a thread of its own."""

    def __init__(self, backend: Backend, revision: int) -> None:
        self._answers: list[int] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(backend.wait(revision, 100.0)), daemon=True)
        self._thread.start()

    def answer(self) -> int:
        """What it returned."""
        self._thread.join(100)
        (answer,) = self._answers
        return answer
