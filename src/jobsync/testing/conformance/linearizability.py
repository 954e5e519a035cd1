"""Whether a history of concurrent calls is linearizable: a small checker after Wing and Gong.

A history is linearizable if the calls can be put into one order in which each has the outcome that it had, and in which no call
stands before another that had returned when it began. So each call took effect at one moment between its begin and its end.

A call of unknown outcome (the store was killed, the answer was lost) may have taken effect at any moment after its begin, or not
at all. Its end is infinity, and the order may leave it out.

J. M. Wing and C. Gong, *Testing and Verifying Concurrent Objects*, Journal of Parallel and Distributed Computing 17 (1993).
The table of states that were tried is from G. Lowe, *Testing for Linearizability*, Concurrency and Computation 29 (2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import attrs

__all__ = ['UNKNOWN_END', 'Operation', 'linearize']

S = TypeVar('S', bound=Hashable)

UNKNOWN_END = math.inf


@attrs.frozen
class Operation(Generic[S]):
    """One call, with its outcome."""

    what: str
    """The call and its outcome, for people."""
    begin: float
    end: float
    """``UNKNOWN_END`` for a call of unknown outcome."""
    step: Callable[[S], S | None]
    """The state after the call; None if the call cannot have this outcome in this state."""

    @property
    def is_known(self) -> bool:
        """Whether the call returned."""
        return self.end != UNKNOWN_END


def linearize(history: Sequence[Operation[S]], first: S) -> tuple[list[Operation[S]], bool]:
    """Search for an order of a history.

    Args:
        history: the calls, in any order.
        first: the state before all calls.

    Returns:
        An order of all calls that returned, and True. If there is none, the longest order that was found, and False.
    """
    calls = sorted(history, key=lambda call: call.begin)
    known = sum(1 << number for number, call in enumerate(calls) if call.is_known)
    longest: list[int] = []
    tried: set[tuple[int, S]] = set()
    path: list[int] = []
    stack = [(first, 0, iter(_next_calls(calls, 0)))]
    while stack:
        state, done, choices = stack[-1]
        if done & known == known:
            return [calls[number] for number in path], True
        for number in choices:
            after = calls[number].step(state)
            reached = done | 1 << number
            is_idle = after == state and not calls[number].is_known
            if after is not None and not is_idle and (reached, after) not in tried:
                tried.add((reached, after))
                path.append(number)
                stack.append((after, reached, iter(_next_calls(calls, reached))))
                break
        else:
            longest = max(longest, path.copy(), key=len)
            stack.pop()
            if path:
                path.pop()
    return [calls[number] for number in longest], False


def _next_calls(calls: Sequence[Operation[S]], done: int) -> list[int]:
    """Return the calls that may come next: those that began before the first end of a call that is not done."""
    left = [number for number in range(len(calls)) if not done >> number & 1]
    first_end = min((calls[number].end for number in left), default=UNKNOWN_END)
    return [number for number in left if calls[number].begin <= first_end]
