"""What values must be: for the fields of ``CoordinationConfig`` and for the arguments of ``Job``.

An error names the field or argument, its value and what is allowed. Nothing is coerced: ``'5'`` is not a number and ``1`` is not
True, since a wrong guess here shows as two clusters later.
"""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import math
import numbers
import re
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from jobsync._core.redact import cut_repr, no_url, redact_url, safe_repr
from jobsync.backend import Backend, HistoryKind
from jobsync.errors import ConfigError

T = TypeVar('T')
A = TypeVar('A', bound=attrs.AttrsInstance)

_LONGEST_NAME = 200
_LONGEST_SEC = 10**9
"""Thirty years: more than any wait, and less than what the clocks of Python and of the stores can count."""
_MOST_ROWS = 10**9
_LONGEST_AGE = dt.timedelta(days=36_500)
"""More than the age of any record."""
_OF_THE_JOB = (
    'node_name',
    'site',
    'config',
    'date',
    'wait_on_enter',
    'wait_on_exit',
    'skip_db_init',
    'lock_provider',
    'clear_existing_locks',
    'coordination_config',
    'on_rebalance',
    'on_assign',
    'on_revoke',
    'on_lost',
    'handle_signals',
)
"""Arguments of ``Job``, which are often taken for fields of the configuration."""
_BACKEND_METHODS = frozenset(name for name in vars(Backend) if not name.startswith('_'))


@attrs.frozen
class Check:
    """A condition for a value: a validator for fields of attrs classes, and ``of`` for arguments."""

    is_allowed: Callable[[Any], bool]
    allowed: str
    """What is allowed, as the error says it after "must be"."""

    def of(self, name: str, value: T) -> T:
        """Return the value of an argument. Raise ``ConfigError`` with its name if it is not allowed."""
        if not self.is_allowed(value):
            raise ConfigError(f'{name} is {safe_repr(value)}: must be {self.allowed}')
        return value

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check a field of an attrs class."""
        self.of(attribute.name, value)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST_NAME


def _is_iterable(value: object, kinds: tuple[type, ...] = (Iterable,)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, (str, bytes, bytearray))


# --- fields -----------------------------------------------------------------------------------------------------------------

flag = Check(lambda value: isinstance(value, bool), 'True or False')
"""True or False; not the text 'False', which counts as true."""


def integer(low: int, high: int) -> Check:
    """Return the check for an integer from ``low`` to ``high``, both allowed."""
    return Check(lambda value: _is_integer(value) and low <= value <= high, f'an integer from {low} to {high}')


def number(low: float, high: float, unit: str = '') -> Check:
    """Return the check for an int or float from ``low`` to ``high``, both allowed; neither NaN nor infinite."""
    allowed = f'a number{unit and " of "}{unit} from {low} to {high}'
    return Check(lambda value: _is_number(value) and low <= value <= high, allowed)


def choice(allowed: Collection[str]) -> Check:
    """Return the check for one of a few words."""
    return Check(lambda value: isinstance(value, str) and value in allowed, f'one of {", ".join(allowed)}')


prefix = Check(
    lambda value: isinstance(value, str) and bool(re.fullmatch('[A-Za-z_][A-Za-z0-9_]{0,31}', value)),
    'an identifier prefix: up to 32 ASCII letters, digits and underscores, not starting with a digit',
)
"""The beginning of a SQL identifier."""


def text(secret: bool = False) -> Callable[[Any, Any, Any], None]:
    """Return the check for printable text. Only a secret may be empty, and no error shows a secret."""
    if not secret:
        return Check(lambda value: isinstance(value, str) and value.isprintable() and bool(value), 'printable text, not empty')

    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, str) or not value.isprintable():
            raise ConfigError(f'{attribute.name} is of type {type(value).__name__} or not printable: must be printable text')

    return validate


def store(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check that a field is a backend's URL, or a backend."""
    if isinstance(value, str):
        if '://' not in value:
            raise ConfigError(f'{attribute.name} is {no_url(value)}')
        if value != value.strip():  # a line break of a file, say: it would be part of a file's or a database's name
            raise ConfigError(
                f'{attribute.name} is {safe_repr(redact_url(value))}: must have no space and no line break at either end'
            )
        return
    missing = missing_methods(value)
    Check(lambda _: not missing, f'a URL or a backend (this one has no {", ".join(missing[:3])})').of(attribute.name, value)


def missing_methods(value: object) -> list[str]:
    """Return the methods of a backend that a value does not have."""
    # A Setting of libb is a mapping that seems to have every attribute, so a mapping is refused before its attributes are read.
    return sorted(name for name in _BACKEND_METHODS if isinstance(value, Mapping) or not hasattr(value, name))


weight = number(0, 1_000_000)
"""A node's share of the tokens relative to the others'."""


def check_fields(values: object) -> None:
    """Call the validators of an attrs object where attrs does not.

    ``attrs.validators.set_disabled`` switches them off for every class of the process.
    """
    if attrs.validators.get_disabled():
        for field in attrs.fields(type(values)):  # type: ignore[arg-type]
            if field.validator is not None:
                field.validator(values, field, getattr(values, field.name))


# --- arguments --------------------------------------------------------------------------------------------------------------

node_name = Check(
    lambda name: _is_name(name) and name == name.strip(),
    f'1 to {_LONGEST_NAME} printable characters, no space at either end',
)
"""A node's name, which people read in a table and compare."""
seconds = Check(
    lambda value: _is_number(value) and 0 <= value <= _LONGEST_SEC, f'a number of seconds, 0 or more, at most {_LONGEST_SEC}'
)
longest_wait = Check(
    lambda value: value is None or (isinstance(value, numbers.Real) and not isinstance(value, bool)),
    'a number of seconds, or None',
)
incarnation = Check(lambda value: value is None or isinstance(value, str), 'an incarnation, as nodes has it, or None')
site = Check(lambda value: value is None or isinstance(value, str), 'a string or None; other arguments are given by name')
batch = Check(lambda value: value is None or (_is_integer(value) and value >= 1), 'an integer of at least 1, or None')


def _is_moment(value: object) -> bool:
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        return False
    try:
        value.astimezone(dt.UTC)
    except OverflowError:
        return False
    return True


aware_datetime = Check(_is_moment, 'a datetime with a timezone, such as datetime.UTC, between the years 1 and 9999 in UTC')
KINDS = tuple(kind.value for kind in HistoryKind)
history_kinds = Check(
    lambda value: (
        isinstance(value, Collection) and not isinstance(value, str) and len(value) > 0 and all(kind in KINDS for kind in value)
    ),
    f'some of {", ".join(map(repr, KINDS))}, in a list or tuple',
)
place_name = Check(
    lambda name: _is_name(name) and name != '<lambda>',
    f'a name of 1 to {_LONGEST_NAME} printable characters, the same on every node (a lambda has no name of its own)',
)
"""The name of a singleton or a schedule."""
misfire = choice(('skip', 'run'))
"""What becomes of ticks that are missed."""


def is_storable(value: str) -> bool:
    """Return whether every store can keep a text: it has a UTF-8 form, and no NUL."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return '\0' not in value


def _is_storable_text(value: object) -> bool:
    return isinstance(value, str) and is_storable(value)


_STORABLE = 'without NUL and lone surrogates'
creator = Check(lambda value: _is_storable_text(value) and bool(value), f'the name of a node, {_STORABLE}')
"""The node whose task locks are meant; never None, which would mean those of all nodes."""
actor = Check(lambda value: _is_storable_text(value) and bool(value), f'a name, {_STORABLE}')
"""A person or program that changes a cluster."""
reason = Check(lambda value: value is None or _is_storable_text(value), f'a string or None, {_STORABLE}')


def _is_host(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable() or ' ' in value:
        return False
    try:
        value.encode('idna')
    except UnicodeError:
        return False
    return True


host = Check(_is_host, 'the name or address of a host')
port = integer(0, 65_535)
locks = Check(lambda value: isinstance(value, Iterable), 'an iterable of tuples (task_id, node_pattern, reason)')
token = Check(lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool), 'an integer')
"""A number of a token, those of numpy included."""
rows = integer(0, _MOST_ROWS)
limit = Check(lambda value: value is None or rows.is_allowed(value), f'{rows.allowed}, or None')
attempts = integer(1, 100_000)
names = Check(_is_iterable, 'names of nodes, in a list or another iterable')
group = Check(
    lambda name: _is_name(name) and name == name.strip() and not name.startswith('#'),
    f'the name of a group: 1 to {_LONGEST_NAME} printable characters, no space at either end, no # at the beginning',
)
"""A group of items."""
cost = Check(lambda value: _is_number(value) and 0 < value <= 1_000_000, 'a number above 0, at most 1000000')
"""How much an item takes of a node's share, relative to the other items of its group."""
items = Check(_is_iterable, 'an iterable of ids, such as a list; an empty one removes the group')
task_ids = Check(_is_iterable, 'an iterable of tasks, such as a list')
_NO_LOOP = '; for one task there is task(…)'
tasks = Check(_is_iterable, f'{task_ids.allowed}{_NO_LOOP}, and for an asynchronous iterable AsyncJob')
batch_tasks = Check(
    _is_iterable,
    f'an iterable of tasks, such as a list{_NO_LOOP}; read an asynchronous iterable into a list first',
)
async_tasks = Check(
    lambda value: _is_iterable(value, (Iterable, AsyncIterable)),
    f'an iterable or asynchronous iterable of tasks, such as a list{_NO_LOOP}',
)


def optional_date(date: object) -> dt.date | None:
    """Return the date of a date or datetime; None for None, which stands for every date."""
    return None if date is None else day_of_work(date)


def day_of_work(date: object) -> dt.date:
    """Return the date of a date or datetime; today for None."""
    found = date_of_work(date)
    return found.date() if isinstance(found, dt.datetime) else found


def date_of_work(date: object) -> dt.date:
    """Return the date or datetime as it was given; today for None."""
    if date is None:
        return dt.date.today()
    if not isinstance(date, dt.date):
        raise ConfigError(f'date is {safe_repr(date)}: must be a datetime.date or datetime.datetime')
    return date


def age(older_than: dt.timedelta | float) -> dt.timedelta:
    """Return an age, given as a timedelta or in seconds."""
    if isinstance(older_than, dt.timedelta):
        # Before minus now, in place of now minus before: a purge by it would delete all that was completed until now.
        if older_than < dt.timedelta(0):
            raise ConfigError(f'older_than is {safe_repr(older_than)}: must be 0 or more')
        return min(older_than, _LONGEST_AGE)
    return dt.timedelta(seconds=seconds.of('older_than', older_than))


# --- names ------------------------------------------------------------------------------------------------------------------


def hides_password(value: object) -> str:
    """Return the repr of a field that holds a backend or its URL, without the URL's password."""
    return cut_repr(redact_url(value) if isinstance(value, str) else value)


def nearest(name: object, known: Collection[str]) -> str | None:
    """Return the known name that ``name`` is probably a misspelling of."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return None
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)


def unknown_field(name: object, known: Collection[str], where: str) -> ConfigError:
    """Return the error for a field that does not exist, with the nearest one that does."""
    if name in _OF_THE_JOB:
        return ConfigError(f'{where} has no field {cut_repr(name)}: it is an argument of Job and AsyncJob')
    near = nearest(name, known)
    hint = f'did you mean {near}?' if near else f'there are {", ".join(sorted(known))}'
    return ConfigError(f'{where} has no field {cut_repr(name)}: {hint}')


def keywords_only(cls: type[A]) -> type[A]:
    """Make an attrs class refuse an unknown or positional argument with ``ConfigError`` in place of Python's ``TypeError``.

    Class decorators do not change the signature that a type checker sees, and ``inspect`` follows ``__wrapped__``.
    """
    init: Callable[..., None] = cls.__init__
    known = frozenset(attrs.fields_dict(cls))

    @functools.wraps(init)
    def checked(self: A, *args: object, **fields: object) -> None:
        if args:
            raise ConfigError(f'{cls.__name__} takes fields by name, as in total_tokens=5000; not {safe_repr(args[0])}')
        for name in fields:
            if name not in known:
                raise unknown_field(name, known, cls.__name__)
        init(self, **fields)

    setattr(cls, '__init__', checked)  # noqa: B010  (mypy refuses the plain assignment)
    return cls
