"""How a value from outside appears in a message: short, on one line, without a secret, and without an error of its own."""

from __future__ import annotations

import re
import reprlib

__all__ = ['shown', 'shown_url']

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 120
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = _repr.maxdict = 4
_repr.maxlevel = 3

_PASSWORD = re.compile(r'^([^:/?#]*://[^:]*|(?![^:/?#]*://)[^:]*):.*@', re.DOTALL)
_SECRET_OPTION = re.compile(r'([?&;][^=&;]*(?:pass|pwd|secret|token|key)[^=&;]*=)[^&;]*', re.IGNORECASE)


def shown(value: object) -> str:
    """Value and type, as in ``'abc' (str)``; a long value is cut, one that cannot be shown is replaced."""
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001  (somebody's __repr__, or an int of more digits than Python will print)
        text = '<not printable>'
    return f'{text} ({type(value).__name__})'


def shown_url(url: str) -> str:
    """The URL with ``***`` for its password and for options that sound like a secret.

    A URL may well be malformed where this is called, its password unquoted for instance. So it is not parsed: what stands
    between the first ``:`` after the scheme and the last ``@`` goes, rather too much than too little.
    """
    return _SECRET_OPTION.sub(r'\1***', _PASSWORD.sub(r'\1:***@', url))
