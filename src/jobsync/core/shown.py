"""How a value from outside appears in a message: short, on one line, and whatever it is, without an error of its own."""

from __future__ import annotations

import reprlib

__all__ = ['shown']

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 120
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = _repr.maxdict = 4
_repr.maxlevel = 3


def shown(value: object) -> str:
    """Value and type, as in ``'abc' (str)``; a long value is cut, one that cannot be shown is replaced."""
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001  (somebody's __repr__, or an int of more digits than Python will print)
        text = '<not printable>'
    return f'{text} ({type(value).__name__})'
