"""Calls of the user's functions when tokens come and go: one at a time and in order, on a thread of their own.

A call that takes longer than it may is given up: its thread is left to itself, and another goes on with the next. So a function
that hangs delays its own tokens until their deadline, and nothing else for longer than that.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import attrs

from jobsync._core.agent.events import OwnershipChanged
from jobsync._event_log import EventLogger
from jobsync._runtime.clock import now

__all__ = ['Callbacks', 'Functions', 'RebalanceEvent']

_logger = EventLogger('jobsync.node')
_LOOK_SEC = 1.0
"""How often a thread that waits for changes has the agent look at the lease, and the least that a call may take."""
_NEVER = float('inf')


def _counted(tokens: frozenset[int]) -> str:
    return f'<{len(tokens)} tokens>'


@attrs.frozen
class RebalanceEvent:
    """What changed in the tokens that a node may claim."""

    node_name: str
    gained: frozenset[int] = attrs.field(repr=_counted)
    lost: frozenset[int] = attrs.field(repr=_counted)
    """Given up, or lost with the lease or the incarnation."""
    token_count: int
    """How many there are now."""


@attrs.frozen
class Functions:
    """What the user wants called."""

    on_assign: Callable[..., object] | None = None
    """Of the tokens that are this node's from now on."""
    on_revoke: Callable[..., object] | None = None
    """Of tokens that will be another's when it returns, at the latest at the deadline given with them."""
    on_lost: Callable[..., object] | None = None
    """Of tokens that may be another's already."""
    on_rebalance: Callable[..., object] | None = None
    """Of a ``RebalanceEvent``, or of nothing."""

    @property
    def announces(self) -> bool:
        """Whether it matters which tokens are asked for and which are lost."""
        return any((self.on_assign, self.on_revoke, self.on_lost))

    @property
    def any(self) -> bool:
        """Whether there is anything to call."""
        return self.announces or self.on_rebalance is not None


@attrs.frozen
class _Call:
    """One call to be made."""

    name: str
    function: Callable[..., object]
    arguments: tuple[Any, ...]
    held: frozenset[int] = frozenset()
    """The tokens that stay until it is over."""
    until: float = _NEVER
    """When it is given up; without a time of its own, so long after its start as the others may take."""


class Callbacks:
    """The calls of one node."""

    def __init__(
        self,
        node_name: str,
        functions: Functions,
        patience_sec: float,
        lease_end: Callable[[], float],
        look_at_lease: Callable[[], object],
        release: Callable[[frozenset[int]], object],
    ) -> None:
        """``patience_sec``: how long a call may take that has no deadline; ``release``: these tokens need be held no longer.

        ``lease_end`` says when to look at the lease, ``look_at_lease`` has the agent do it: the agent alone declares a loss,
        which then comes by ``put``. Judged in this thread, a heartbeat that succeeds at that moment would go unnoticed.
        """
        self._node_name, self._functions, self._patience_sec = node_name, functions, max(1.0, patience_sec)
        self._lease_end, self._look_at_lease, self._release = lease_end, look_at_lease, release
        self._changes: SimpleQueue[OwnershipChanged | None] = SimpleQueue()
        self._pending: deque[_Call] = deque()
        self._told: frozenset[int] = frozenset()
        """The tokens that are this node's as far as the user has been told, or will have been by what is pending."""
        self._turn = 0
        """Which thread's it is."""
        self._under_way: tuple[_Call, float] | None = None
        self._lock = threading.Lock()
        self._all_told = threading.Event()

    def start(self) -> None:
        """Begin to call back, if there is anything to call."""
        if self._functions.any:
            self._start_thread()
        else:
            self._all_told.set()

    def _start_thread(self) -> None:
        self._turn += 1
        name = f'jobsync-callbacks-{self._node_name}'
        threading.Thread(target=self._run, args=(self._turn,), name=name, daemon=True).start()

    @property
    def holds(self) -> bool:
        """Whether tokens stay until the user has been told. If not, whoever puts a change releases what was asked for."""
        return self._functions.on_revoke is not None

    def put(self, change: OwnershipChanged) -> None:
        """The tokens have changed."""
        if self._functions.any:
            self._changes.put(change)

    def close(self) -> None:
        """No more calls after those that wait."""
        self._changes.put(None)

    def wait_until_told(self, timeout: float) -> bool:
        """After ``close``: wait for the last call to return; say whether it has."""
        return self._all_told.wait(timeout)

    def look_for_a_hang(self) -> None:
        """Give up a call that takes too long. From any thread but ours, now and then."""
        with self._lock:
            hung = self._under_way
            if hung is None or now() < hung[1]:
                return
            self._under_way = None
            self._start_thread()
        call = hung[0]
        _logger.error('node %r: %s has not returned in time, and is no longer waited for', self._node_name, call.name)
        if call.held:
            self._release(call.held)

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _run(self, turn: int) -> None:
        while True:
            while self._pending:
                if not self._make(turn, self._pending.popleft()):
                    return
            try:
                change = self._changes.get(timeout=self._until_look())
            except Empty:
                if self._told and now() >= self._lease_end():
                    self._look_at_lease()
                continue
            if change is None:
                self._all_told.set()
                return
            self._plan(change.after.tokens, change.asked, change.deadline)

    def _until_look(self) -> float | None:
        return min(_LOOK_SEC, max(0.0, self._lease_end() - now())) or 0.01 if self._told else None

    def _plan(self, tokens: frozenset[int], asked: frozenset[int], deadline: float) -> None:
        """Work out what is to be called, now that these tokens are ours."""
        functions, told, self._told = self._functions, self._told, tokens
        going, coming = told - tokens, tokens - told
        revoked, lost = going & asked, going - asked
        if functions.on_revoke is not None and revoked:
            shown = time.monotonic() + (deadline - now())
            self._pending.append(_Call('on_revoke', functions.on_revoke, (revoked, shown), asked, deadline))
        elif functions.on_revoke is not None and asked:
            self._release(asked)
        if functions.on_lost is not None and lost:
            self._pending.append(_Call('on_lost', functions.on_lost, (lost,)))
        if functions.on_assign is not None and coming:
            self._pending.append(_Call('on_assign', functions.on_assign, (coming,)))
        if functions.on_rebalance is not None and (going or coming):
            event = RebalanceEvent(self._node_name, coming, going, len(tokens))
            self._pending.append(_Call('on_rebalance', partial(_call_with_event, functions.on_rebalance), (event,)))

    def _make(self, turn: int, call: _Call) -> bool:
        """Make a call; say whether this thread is still the one that makes them."""
        with self._lock:
            until = call.until if call.held else now() + self._patience_sec
            self._under_way = (call, max(until, now() + _LOOK_SEC))
        try:
            call.function(*call.arguments)
        except BaseException:
            _logger.exception('node %r: %s raised', self._node_name, call.name)
        with self._lock:
            if turn != self._turn:
                return False
            self._under_way = None
        if call.held:
            self._release(call.held)
        return True


def _call_with_event(callback: Callable[..., Any], event: RebalanceEvent) -> None:
    """Call the callback with the event, if it takes one, or with nothing."""
    try:
        inspect.signature(callback).bind(None)
    except TypeError:
        callback()
        return
    except ValueError:  # a built-in without a signature
        pass
    callback(event)
