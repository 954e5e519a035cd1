"""The arguments of ``Job``, checked: a wrong one gets an error that names it, its value and what is allowed."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable

from jobsync._core.redact import safe_repr
from jobsync.config.fields import MOST_WEIGHT
from jobsync.errors import ConfigError

__all__ = [
    'checked_age',
    'checked_batch',
    'checked_callable',
    'checked_creator',
    'checked_date',
    'checked_flag',
    'checked_name',
    'checked_seconds',
    'checked_site',
    'checked_weight',
]

_LONGEST_NAME = 200


def checked_name(name: object) -> str:
    """A node's name: what people can read in a table, and tell from another."""
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or not name.strip()
        or name != name.strip()
        or len(name) > _LONGEST_NAME
    ):
        raise ConfigError(
            f'node_name is {safe_repr(name)}: must be 1 to {_LONGEST_NAME} printable characters, no space at either end'
        )
    return name


def checked_date(date: object) -> dt.date:
    """A date or datetime as it was given; today, if none was."""
    if date is None:
        return dt.date.today()
    if not isinstance(date, dt.date):
        raise ConfigError(f'date is {safe_repr(date)}: must be a datetime.date or datetime.datetime')
    return date


def checked_flag(name: str, value: object) -> bool:
    """True or False; not the text 'False', which counts as true."""
    if not isinstance(value, bool):
        raise ConfigError(f'{name} is {safe_repr(value)}: must be True or False')
    return value


def checked_seconds(name: str, value: object) -> float:
    """A duration."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ConfigError(f'{name} is {safe_repr(value)}: must be a number of seconds, 0 or more')
    return value


def checked_site(site: object) -> str | None:
    """A label, or None."""
    if site is not None and not isinstance(site, str):
        raise ConfigError(f'site is {safe_repr(site)}: must be a string or None; other arguments are given by name')
    return site


def checked_batch(batch: object) -> None:
    """``batch``: how many tasks to claim at once, or None."""
    if batch is not None and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ConfigError(f'batch is {safe_repr(batch)}: must be an integer of at least 1, or None')


def checked_weight(weight: object) -> None:
    """A node's weight, as ``CoordinationConfig`` takes it."""
    if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight <= MOST_WEIGHT:
        raise ConfigError(f'weight is {safe_repr(weight)}: must be a number from 0 to {MOST_WEIGHT}')


def checked_age(older_than: object) -> dt.timedelta:
    """A timedelta, or seconds."""
    if isinstance(older_than, dt.timedelta):
        return older_than
    return dt.timedelta(seconds=checked_seconds('older_than', older_than))


def checked_creator(creator: object) -> str:
    """The name of the node whose locks are meant; never None, which would mean everybody's."""
    if not isinstance(creator, str) or not creator:
        raise ConfigError(f'creator is {safe_repr(creator)}: must be the name of a node')
    return creator


def checked_callable(name: str, value: Callable[..., object] | None) -> Callable[..., object] | None:
    """Something to call, or None."""
    if value is not None and not callable(value):
        raise ConfigError(f'{name} is {safe_repr(value)}: must be callable')
    return value
