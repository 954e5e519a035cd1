"""Validators whose message names the field, its value and what is allowed.

Nothing is coerced: ``'5'`` is not a number and ``1`` is not True, for a guess that is wrong here is two clusters later.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import attrs

from jobsync._core.redact import redact_url, safe_repr
from jobsync.backend import Backend
from jobsync.errors import ConfigError

__all__ = [
    'choice',
    'flag',
    'hides_password',
    'integer',
    'keywords_only',
    'nearest',
    'number',
    'prefix',
    'store',
    'text',
    'unknown_field',
]

Validator = Callable[[Any, Any, Any], None]
T = TypeVar('T', bound=attrs.AttrsInstance)

_BACKEND_METHODS = frozenset(name for name in vars(Backend) if not name.startswith('_'))


def flag(_: Any, attribute: Any, value: object) -> None:
    """True or False, and nothing that merely counts as one."""
    _check(attribute.name, isinstance(value, bool), value, 'True or False')


def integer(low: int, high: int) -> Validator:
    """An integer from ``low`` to ``high``, both allowed."""

    def validate(_: Any, attribute: Any, value: object) -> None:
        ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        _check(attribute.name, ok, value, f'an integer from {low} to {high}')

    return validate


def number(low: float, high: float, unit: str = '') -> Validator:
    """An int or float from ``low`` to ``high``, both allowed; neither NaN nor infinite."""

    def validate(_: Any, attribute: Any, value: object) -> None:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high
        _check(attribute.name, ok, value, f'a number{unit and " of "}{unit} from {low} to {high}')

    return validate


def choice(allowed: Collection[str]) -> Validator:
    """One of a few words."""

    def validate(_: Any, attribute: Any, value: object) -> None:
        _check(attribute.name, isinstance(value, str) and value in allowed, value, f'one of {", ".join(allowed)}')

    return validate


def prefix(longest: int) -> Validator:
    """The beginning of a SQL identifier."""

    def validate(_: Any, attribute: Any, value: object) -> None:
        ok = isinstance(value, str) and len(value) <= longest and re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', value) is not None
        allowed = f'an identifier prefix: up to {longest} ASCII letters, digits and underscores, not starting with a digit'
        _check(attribute.name, ok, value, allowed)

    return validate


def text(secret: bool = False) -> Validator:
    """Text, not empty; a secret is not shown."""

    def validate(_: Any, attribute: Any, value: object) -> None:
        ok = isinstance(value, str) and value.isprintable() and bool(value or secret)
        if not ok and secret:
            raise ConfigError(f'{attribute.name} is of type {type(value).__name__} or not printable: must be printable text')
        _check(attribute.name, ok, value, 'printable text, not empty')

    return validate


def store(_: Any, attribute: Any, value: object) -> None:
    """A backend's URL, or a backend."""
    if isinstance(value, str):
        if '://' not in value:
            raise ConfigError(f'{attribute.name} is {safe_repr(redact_url(value))}: must be a URL such as sqlite:///jobsync.db')
        return
    # A libb Setting has whatever it is asked for, so a mapping is not asked.
    missing = _BACKEND_METHODS if isinstance(value, Mapping) else {m for m in _BACKEND_METHODS if not hasattr(value, m)}
    if missing:
        allowed = f'a URL or a backend (this one has no {", ".join(sorted(missing)[:3])})'
        _check(attribute.name, False, value, allowed)


def hides_password(value: object) -> str:
    """The repr of a backend field."""
    return repr(redact_url(value) if isinstance(value, str) else value)


def nearest(name: object, known: Collection[str]) -> str | None:
    """The known name that ``name`` is probably a slip for."""
    return next(iter(difflib.get_close_matches(str(name), sorted(known), n=1)), None)


def unknown_field(name: object, known: Collection[str], where: str) -> ConfigError:
    """The error for a field there is not, with the nearest that there is."""
    near = nearest(name, known)
    hint = f'did you mean {near}?' if near else f'there are {", ".join(sorted(known))}'
    return ConfigError(f'{where} has no field {name!r}: {hint}')


def keywords_only(cls: type[T]) -> type[T]:
    """Make an attrs class refuse an unknown or positional argument with ``ConfigError``, in place of Python's ``TypeError``.

    Class decorators do not change how a type checker sees the signature, and ``inspect`` follows ``__wrapped__``.
    """
    init: Callable[..., None] = cls.__init__
    known = frozenset(attrs.fields_dict(cls))

    @functools.wraps(init)
    def checked(self: T, *args: object, **fields: object) -> None:
        if args:
            raise ConfigError(f'{cls.__name__} takes fields by name, as in total_tokens=5000; not {safe_repr(args[0])}')
        for name in fields:
            if name not in known:
                raise unknown_field(name, known, cls.__name__)
        init(self, **fields)

    setattr(cls, '__init__', checked)  # noqa: B010  (mypy refuses the plain assignment)
    return cls


def _check(name: str, ok: bool, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f'{name} is {safe_repr(value)}: must be {allowed}')
