"""Calls of the user's functions when tokens come and go: one at a time and in order, on a thread of their own.

A call that takes too long is abandoned: its thread is left to itself, and another thread makes the next call. So a function that
hangs delays its own tokens until their deadline, and delays nothing else for longer than that.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from queue import Empty

import attrs

from jobsync._core.agent.events import OwnershipChanged
from jobsync._event_log import EventLogger
from jobsync._runtime import clock, threads
from jobsync.config import callables

__all__ = ['Callbacks', 'Functions', 'RebalanceEvent']

_logger = EventLogger('jobsync.node')
_CHECK_SEC = 1.0
"""How often the thread that waits for changes has the agent check the lease, and the least time that a call may take."""


def _counted(tokens: frozenset[int]) -> str:
    return f'<{len(tokens)} tokens>'


@attrs.frozen
class RebalanceEvent:
    """A change of the tokens that a node may claim."""

    node_name: str
    gained: frozenset[int] = attrs.field(repr=_counted)
    lost: frozenset[int] = attrs.field(repr=_counted)
    """Tokens given up, or lost with the lease or the incarnation."""
    token_count: int
    """How many tokens the node may claim now."""


@attrs.frozen
class Functions:
    """The functions of the user's that are called: see ``Job``."""

    on_assign: Callable[..., object] | None = None
    on_revoke: Callable[..., object] | None = None
    on_lost: Callable[..., object] | None = None
    on_rebalance: Callable[..., object] | None = None

    @property
    def announces(self) -> bool:
        """Return whether a function needs to know which tokens were requested and which are lost."""
        return any((self.on_assign, self.on_revoke, self.on_lost))

    @property
    def any(self) -> bool:
        """Return whether there is a function to call."""
        return self.announces or self.on_rebalance is not None


@attrs.frozen
class _Call:
    """One call that is due."""

    name: str
    function: Callable[[], object]
    """The user's function with its arguments."""
    held: frozenset[int] = frozenset()
    """The tokens that stay with this node until the call is over."""
    until: float = math.inf
    """When the call is abandoned, if it holds tokens; any other is abandoned ``patience_sec`` after its start."""


class _Here(threading.local):
    """What the present thread does."""

    is_in_call = False


class Callbacks:
    """The calls of one node's functions."""

    def __init__(
        self,
        node_name: str,
        functions: Functions,
        patience_sec: float,
        lease_end: Callable[[], float],
        check_lease: Callable[[], object],
        release: Callable[[frozenset[int]], object],
    ) -> None:
        """Store the parts.

        ``patience_sec`` is how long a call without a deadline may take. ``release`` is called with tokens that need be held no
        longer. ``lease_end`` returns when the lease ends, and ``check_lease`` has the agent check it: the agent alone declares
        a loss, which then arrives by ``put``. A check in this thread could miss a heartbeat that succeeds at that moment.
        """
        self._node_name, self._functions, self._patience_sec = node_name, functions, max(1.0, patience_sec)
        self._lease_end, self._check_lease, self._release = lease_end, check_lease, release
        self._changes: threads.Queue[OwnershipChanged | None] = threads.new_queue()
        self._change: OwnershipChanged | None = None
        """The change that is taken, until the calls for it are pending."""
        self._pending: deque[_Call] = deque()
        self._reported: frozenset[int] = frozenset()
        """The tokens that this node owns by the calls made so far and those pending."""
        self._turn: object = None
        """The turn of the thread that makes the calls: each has one of its own."""
        self._under_way: tuple[_Call, float] | None = None
        self._thread: threads.Running | None = None
        """The thread that makes the calls; None before the first one, and after the last call."""
        self._lock = threading.Lock()
        self._here = _Here()
        self._end: threads.Queue[None] = threads.new_queue()
        """Has an item once the last call has returned."""

    def start(self) -> None:
        """Start to make calls, if there is a function to call."""
        if self._functions.any:
            with self._lock:
                self._start_thread()
        else:
            self._end.put(None)

    def _start_thread(self) -> None:
        """Have another thread make the calls. Under the lock."""
        # t=0  the thread begins so late that it counts as one that could not be started
        # t=1  the next one is started: with the same turn as the first, both would make calls
        turn = object()
        target = partial(threads.keep_on, self._node_name, 'the callbacks thread', partial(self._serve, turn), _CHECK_SEC)
        self._thread = threads.start(self._node_name, 'callbacks', target)
        self._turn = turn

    @property
    def holds(self) -> bool:
        """Return whether tokens stay until ``on_revoke`` has returned. If not, the caller of ``put`` releases them."""
        return self._functions.on_revoke is not None

    @property
    def are_made_here(self) -> bool:
        """Return whether the present thread is inside a call."""
        return self._here.is_in_call

    def put(self, change: OwnershipChanged) -> None:
        """Queue the calls for a change of the tokens."""
        if self._functions.any:
            self._changes.put(change)

    def close(self) -> None:
        """Make no more calls after those that wait."""
        self._changes.put(None)
        if self._thread is None:  # never started, as the node was to leave before: no thread would say that it has ended
            self._end.put(None)

    def wait_until_finished(self, timeout: float) -> bool:
        """Wait, after ``close``, for the last call to return; return whether it has."""
        try:
            self._end.get(timeout=timeout)
        except Empty:
            return False
        self._end.put(None)
        return True

    def abandon_hung_call(self) -> None:
        """Abandon a call that takes too long, or whose thread is over. The threads of the node call this from time to time."""
        with self._lock:
            hung = self._under_way
            # t=0  there is no memory for a step of the thread, outside all that catches an error: it ends
            # t=1  no call would be made any more, and each hand-over would wait until its deadline
            is_over = self._thread is not None and not self._thread.is_alive()
            if not is_over and (hung is None or clock.now() < hung[1]):
                return
            try:
                self._start_thread()
            except RuntimeError:  # the process can start no thread now: the threads of the node try again
                return
            self._under_way = None
        if hung is None:
            return
        call = hung[0]
        _logger.error('node %r: %s has not returned in time, and is no longer waited for', self._node_name, call.name)
        if call.held:
            self._release(call.held)

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _serve(self, turn: object) -> bool:
        """Make the calls that are due, and take the next change; return False if this thread has no more to do."""
        threads.duty.serves_a_node = True
        while self._end_call(turn) and self._pending:
            self._make()
        if turn is not self._turn:
            return False
        try:
            change = self._change = self._change or self._changes.get(timeout=self._until_check())
        except Empty:
            if self._reported and clock.now() >= self._lease_end():
                self._check_lease()
            return True
        if change is None:
            self._thread = None
            self._end.put(None)
            return False
        self._plan(change.after.tokens, change.asked, change.deadline)
        self._change = None
        return True

    def _until_check(self) -> float | None:
        """Return how long to wait for a change before the lease is checked; None without tokens, where there is none to check."""
        return max(0.01, min(_CHECK_SEC, self._lease_end() - clock.now())) if self._reported else None

    def _plan(self, tokens: frozenset[int], asked: frozenset[int], deadline: float) -> None:
        """Queue the calls that are due, now that this node owns these tokens."""
        functions, reported, calls = self._functions, self._reported, list[_Call]()
        going, coming = reported - tokens, tokens - reported
        revoked, lost = going & asked, going - asked
        if functions.on_revoke is not None and revoked:
            shown = time.monotonic() + (deadline - clock.now())
            calls.append(_Call('on_revoke', partial(functions.on_revoke, revoked, shown), asked, deadline))
        elif functions.on_revoke is not None and asked:
            self._release(asked)
        if functions.on_lost is not None and lost:
            calls.append(_Call('on_lost', partial(functions.on_lost, lost)))
        if functions.on_assign is not None and coming:
            calls.append(_Call('on_assign', partial(functions.on_assign, coming)))
        if functions.on_rebalance is not None and (going or coming):
            takes_event = callables.callback(1).is_allowed(functions.on_rebalance)
            event = (RebalanceEvent(self._node_name, coming, going, len(tokens)),) if takes_event else ()
            calls.append(_Call('on_rebalance', partial(functions.on_rebalance, *event)))
        # Last, since there may be no memory for a call: then all are planned again, or the user never learns of a token.
        self._pending.extend(calls)
        self._reported = tokens

    def _end_call(self, turn: object) -> bool:
        """End the call under way, if there is one; return whether this thread is still the one that makes calls."""
        # t=0  the call hangs in this thread, beyond its time
        # t=1  a thread of the node abandons it, and starts the next thread, which makes the next call
        # t=2  the call returns: the calls are the next thread's now, so this one ends without another, and releases no tokens
        # And this comes before each call, not after it: there may have been no memory for what comes after.
        with self._lock:
            if turn is not self._turn:
                return False
            ended = self._under_way
        if ended is not None and ended[0].held and not self._is_due(ended[0]):
            self._release(ended[0].held)
        with self._lock:
            if turn is not self._turn:
                return False
            self._under_way = None
        return True

    def _make(self) -> None:
        self._here.is_in_call = True  # first, as there may be no memory for it: then the call is still due
        threads.duty.serves_a_node = False
        call = self._pending[0]
        try:
            # In one statement: between two there may be no memory, and a call that is taken and not made is never made.
            callables.check_has_run(call.name, self._take(call).function())
        except CancelledError:  # by an AsyncJob that is cancelled while it leaves
            _logger.warning('node %r: %s was cancelled before its end', self._node_name, call.name)
        except BaseException:
            if self._is_due(call):
                raise
            _logger.exception('node %r: %s raised', self._node_name, call.name)
        finally:
            self._here.is_in_call = False
            threads.duty.serves_a_node = True

    def _take(self, call: _Call) -> _Call:
        """Begin with the first call that is due, which is due no longer."""
        with self._lock:
            until = call.until if call.held else clock.now() + self._patience_sec
            self._under_way = (call, max(until, clock.now() + _CHECK_SEC))
            return self._pending.popleft()

    def _is_due(self, call: _Call) -> bool:
        return bool(self._pending) and self._pending[0] is call
