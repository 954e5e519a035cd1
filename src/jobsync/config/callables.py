"""What functions must be that users give: callbacks, and functions that are run on a schedule."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

from jobsync._core.redact import safe_repr
from jobsync.config.checks import Check
from jobsync.errors import ConfigError

__all__ = ['callback', 'check_has_run', 'function', 'with_optional_argument']

T = TypeVar('T')

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def callback(*counts: int) -> Check:
    """Return the check for None, or a function that can be called with one of these numbers of arguments."""

    def is_allowed(value: object) -> bool:
        if value is None or not callable(value):
            return value is None
        try:
            signature = inspect.signature(value)
        except (TypeError, ValueError):  # a built-in without a signature
            return True
        return any(_takes(signature, count) for count in counts)

    return Check(is_allowed, f'callable with {" or ".join(map(_arguments, counts))}')


def function(name: str, value: T, *counts: int, may_await: bool = False) -> T:
    """Return a function that takes one of these numbers of arguments, or None. Raise ``ConfigError`` for any other value.

    A generator function is refused, because a call of it runs nothing of its body, and no error would say so. So is a coroutine
    function, unless its caller ``may_await``.
    """
    callback(*counts).of(name, value)
    called: Any = value
    while isinstance(called, functools.partial):
        called = called.func
    by_class = getattr(type(called), '__call__', None)  # noqa: B004 - of an object whose call is a generator or coroutine function
    codes = [getattr(each, '__code__', None) for each in (called, by_class)]
    flags = _GENERATOR if may_await else _GENERATOR | inspect.CO_COROUTINE
    if any(isinstance(code, types.CodeType) and code.co_flags & flags for code in codes):
        allowed = 'no generator' if may_await else 'no generator, and no coroutine function, which AsyncJob takes'
        raise ConfigError(f'{name} is {safe_repr(value)}: must be {allowed}, since a call of it would run nothing')
    return value


def check_has_run(name: str, result: object) -> None:
    """Refuse what a function has returned and nothing runs, such as of a coroutine function behind a plain one."""
    if isinstance(result, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)):
        if isinstance(result, types.CoroutineType):
            result.close()  # Python would warn of one that was never awaited
        raise ConfigError(f'{name} has returned {safe_repr(result)}, which nothing runs: an AsyncJob runs coroutine functions')


def with_optional_argument(scheduled: Callable[..., object]) -> Callable[[object], object]:
    """Return a function of one argument that calls a user's function with it, or without, as the user's function has it.

    Raise ``ConfigError`` if the user's function takes more arguments, or runs nothing when it is called.
    """
    if scheduled is None:
        raise ConfigError('function is None: must be callable')
    function('function', scheduled, 1, 0)
    takes_one = callback(1).is_allowed(scheduled)
    return scheduled if takes_one else lambda _: scheduled()


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _arguments(count: int) -> str:
    return {0: 'none', 1: 'one argument'}.get(count, f'{count} arguments')
