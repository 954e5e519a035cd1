"""A gate between the calls of a library and the forks of this process: no fork comes in the midst of a call of another thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator

import attrs

from jobsync.backends._common.forks import forget_in_child

__all__ = ['POLL_SEC', 'ForkGate']

POLL_SEC = 0.0005
TURN_SEC = 1.0
"""How long a fork lets calls go first that another fork has kept waiting."""


@attrs.define(eq=False)
class Passage:
    """A call that is under way, its thread, and how to cancel the call if it may last."""

    thread: int
    channel: object
    """What the call is made over, for a gate that waits for the calls of one connection."""
    cancel: Callable[[], object] | None = None
    is_held: bool = False
    """Whether it waits for a fork, and not a fork for it."""


class ForkGate:
    """Calls pass the gate, any number at once, except during a fork, which waits for those of other threads.

    Neither side takes a lock. A signal's handler may run, and raise, in the main thread between any two steps: a lock that it has
    just taken would stay taken, and the node's own thread would wait for it. Each side makes its mark first, and then reads the
    other one's::

        call     makes its mark     reads that no fork is under way: it goes on
        fork                        makes its mark     reads the mark of the call: it waits
        or
        fork     makes its mark     reads no other mark: it goes on
        call                        makes its mark     reads that a fork is under way: it takes its mark back, and waits

    Args:
        waits_sec: How long a fork waits for calls.
        holds_sec: How long a fork keeps calls waiting.
    """

    def __init__(self, waits_sec: float, holds_sec: float) -> None:
        self.waits_sec, self._holds_sec = waits_sec, holds_sec
        self._inside: set[Passage] = set()
        """The calls that are under way, and those that are held."""
        self._forking: dict[int, float] = {}
        """For each thread that is about to fork: until when it keeps calls waiting."""
        forget_in_child(self)

    def forget(self) -> None:
        """See ``Forgetful``: a forked child has no other threads.

        Nor does it wait for the call in whose midst a signal's handler has forked it: it may live in that handler.
        """
        self._inside, self._forking = set(), {}

    @contextlib.contextmanager
    def passed(self, channel: object = None) -> Iterator[Passage]:
        """Hold a fork up for the length of a call over ``channel``, or of whatever else concerns the library."""
        passage = Passage(threading.get_ident(), channel)
        # From the first step on, for a signal's handler may raise after any: forks would wait for a passage that is left behind.
        try:
            self._inside.add(passage)
            while self._forking and self._must_wait(passage):
                passage.is_held = True
                time.sleep(POLL_SEC)
                passage.is_held = False
            yield passage
        finally:
            self._inside.discard(passage)

    def under_way(self) -> list[Passage]:
        """Return the calls that are under way."""
        return [call for call in list(self._inside) if not call.is_held]

    def _must_wait(self, passage: Passage) -> bool:
        """Return whether a call has to wait for a fork.

        One that a signal's handler makes in a thread that forks, or is in a call, has not: the fork waits for that thread.
        """
        me, now = passage.thread, time.monotonic()
        is_expected = me in self._forking or any(other.thread == me for other in self.under_way() if other is not passage)
        return not is_expected and any(now < until for until in list(self._forking.values()))

    def shut(self) -> None:
        """Prepare a fork: let no call pass any more, and wait for those that other threads have under way."""
        me = threading.get_ident()
        self._let_pass([call for call in list(self._inside) if call.is_held and call.thread != me])
        now = time.monotonic()
        self._forking[me] = now + self._holds_sec
        while (others := [call for call in self.under_way() if call.thread != me]) and time.monotonic() < now + self.waits_sec:
            for call in others:
                if call.cancel is not None:
                    call.cancel()
            time.sleep(POLL_SEC)

    def _let_pass(self, calls: Collection[Passage]) -> None:
        """Wait until calls that another fork has kept waiting are no longer held."""
        until = time.monotonic() + TURN_SEC
        while any(call.is_held and call in self._inside for call in calls) and time.monotonic() < until:
            time.sleep(POLL_SEC)

    def reopen(self) -> None:
        """Let calls pass again in the parent."""
        self._forking.pop(threading.get_ident(), None)
