"""The memory store: namespaces as values under one lock.

Claims, audits and rebalances are many, and change only by an append or a purge, so they are changed in place. Everything else
is a value that a change replaces.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import defaultdict
from collections.abc import Callable
from random import Random

import attrs

from jobsync.backends._common.concerned import Concerned
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends._common.values import draw_id, utc_now
from jobsync.backends.single_writer import AssignmentTable, CallContext, History, LockTable, NamespaceState
from jobsync.errors import BackendUnavailable

__all__ = ['MemorySpace', 'MemoryStore']


@attrs.frozen(eq=False)
class MemorySpace:
    """One namespace without its history."""

    state: NamespaceState
    assignment: AssignmentTable = attrs.field(factory=AssignmentTable)
    locks: LockTable = attrs.field(factory=LockTable)


class MemoryStore:
    """Any number of namespaces. With a seeded ``random`` and a ``clock`` of its own the store is deterministic."""

    def __init__(
        self,
        clock: Callable[[], dt.datetime] = utc_now,
        random: Random | None = None,
        identity: str | None = None,
        *,
        durable: bool = True,
        has_position: bool = True,
    ) -> None:
        self._random = random or Random()
        self.now = clock
        self.identity = identity or self.draw_id()
        """The store's own identity; set it to simulate a failover."""
        self.position = 0
        """The number of writes there have been."""
        self.has_position = has_position
        self.durable = durable
        """What backends on this store declare."""
        self.refuses_writes = False
        """Set it to make every write fail as unavailable, while readings are answered."""
        self.spaces: dict[str, MemorySpace] = {}
        self.histories: dict[str, History] = {}
        self.concerned: defaultdict[str, Concerned] = defaultdict(Concerned)
        """By namespace, which nodes the latest changes concern."""
        self.forget()
        forget_in_child(self)

    def forget(self) -> None:
        """See ``Forgetful``: no thread of a forked child would release what a thread of the parent holds."""
        # t=0  a thread of the user's enters a block on the condition itself, which takes the lock by a function of Python
        # t=1  an exception from outside (``func_timeout``) ends that function, or the one that would release the lock
        # t=2  the threads of the node wait for that lock for ever, and so does the end of their blocks
        # A block on the lock, which is C code, is begun and ended in one step each.
        self.lock = threading.RLock()
        """Held for every change."""
        self.changed = threading.Condition(self.lock)
        """Notified when a revision rises."""

    def draw_id(self) -> str:
        """Return a random id."""
        return draw_id(self._random)

    def context(self) -> CallContext:
        """Return what a call needs from outside the records now."""
        return CallContext(self.identity, self.now(), self._random, self.position if self.has_position else None)

    def new_space(self) -> MemorySpace:
        """Return a namespace in which nothing has happened."""
        return MemorySpace(NamespaceState(self.context().timeline()))

    def put(self, name: str, space: MemorySpace) -> None:
        """Replace a namespace, and wake the callers that wait for its revision. The caller holds ``lock``."""
        if self.refuses_writes:
            raise BackendUnavailable('the store refuses writes')
        before = self.spaces.get(name)
        self.spaces[name] = space
        self.position += 1
        if before is None or before.state.revision is not space.state.revision:
            self.changed.notify_all()
