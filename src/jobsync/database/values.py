"""Values for a driver with fewer types than Python."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from typing import Any

__all__ = ['for_sqlite']


def for_sqlite(value: object) -> Any:
    """Return a value as SQLite stores and compares it: moments as text in UTC, dates as text, lists as JSON."""
    match value:
        case dt.datetime():
            return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat(' ', 'microseconds')
        case dt.date() | dt.time():
            return value.isoformat()
        case decimal.Decimal() | uuid.UUID():
            return str(value)
        case list():
            return json.dumps([for_sqlite(each) for each in value])
        case _:
            return value
