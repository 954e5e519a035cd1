"""Values from outside as they appear in messages: short, on one line, without secrets, and without raising errors."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

__all__ = ['cut', 'cut_repr', 'listed', 'no_url', 'redact_url', 'safe_repr']


class _Repr(reprlib.Repr):
    """Shows no password of a URL, wherever in a value the URL is: it is easily given in place of something else."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(redact_url(x) if _may_have_login(x) else x, level)

    def repr_bytes(self, x: bytes, level: int) -> str:
        text = x.decode(errors='backslashreplace')
        return f'b{self.repr_str(text, level)}' if _may_have_login(text) else self.repr_instance(x, level)


_repr = _Repr()
_repr.maxstring = _repr.maxother = _MOST = 120
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = _repr.maxdict = 4
_repr.maxlevel = 3

_HOST = r'(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.%]+\])(?::[0-9]{1,5})?'
_URL = re.compile(
    rf"""
    (?P<scheme> [A-Za-z][A-Za-z0-9+.-]*) ://
    (?: (?P<user> [^\s:@/?\#]*) (?P<password> :[^\s@/?\#]*)? @ )?
    (?P<place> (?:{_HOST}(?:,{_HOST})*)? (?:/(?:[^\s:@?\#%]|%[0-9A-Fa-f]{{2}})*)?)
    (?P<query> \?[^@\#]*)?
    """,
    re.VERBOSE,
)
"""A URL whose parts are where they seem to be: a special character of a password is written as %40 and so on."""
_SCHEME = re.compile('[A-Za-z][A-Za-z0-9+.-]*://')
_FILE = re.compile(r'(?:(?i:sqlite):)?(?P<path>[\w./-]*\.(?:db|sqlite3?))')
"""The path of a database file, which was given for a URL, or after ``sqlite:`` without slashes."""


def _may_have_login(text: str) -> bool:
    """Return whether a text may be a URL with a password."""
    return '@' in text.partition('://')[2]


def safe_repr(value: object) -> str:
    """Return value and type, as in ``'abc' (str)``; a long value is cut, one that cannot be shown is replaced."""
    return f'{cut_repr(value)} ({type(value).__name__})'


def cut_repr(value: object) -> str:
    """Return the value as ``repr`` shows it; a long value is cut, one that cannot be shown is replaced."""
    try:
        return _repr.repr(value)
    except Exception:  # noqa: BLE001  (a __repr__ of the user's, or an int of more digits than Python will print)
        return '<not printable>'


def cut(text: str) -> str:
    """Return the text; of a long one the begin and the end."""
    return text if len(text) <= _MOST else f'{text[: _MOST // 2]}...{text[-_MOST // 2 :]}'


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first ``most`` of the names in their order, and how many more there are."""
    names = sorted(names)
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def no_url(value: object) -> str:
    """Return what to say of a backend that is no URL: what it is, as far as that may be shown, and what it must be."""
    found = _FILE.fullmatch(value) if isinstance(value, str) else None
    shown = safe_repr(redact_url(value) if isinstance(value, str) else value)
    return f'{shown}: must be a URL such as sqlite:///{found["path"] if found else "jobsync.db"}, with :// after the scheme'


def redact_url(url: str) -> str:
    """Return what may be shown of a URL: ``***`` for its password and options, or for all but the scheme if it is malformed.

    The plain path of a database file, as in ``jobs.db`` or ``sqlite:jobs.db``, is shown, and so is a blank text.

    In a malformed URL no part is what it seems to be: in ``postgresql://u:pw/secret@host/db`` a parser finds the host ``u`` and
    the database ``secret@host/db``.
    """
    found = _URL.fullmatch(url)
    if found is None:
        if _FILE.fullmatch(url) or not url.strip():
            return url
        scheme = _SCHEME.match(url)
        return f'{scheme[0] if scheme else ""}***'
    user = '' if found['user'] is None else f'{found["user"]}{":***" if found["password"] else ""}@'
    return f'{found["scheme"]}://{user}{found["place"]}{"?***" if found["query"] else ""}'
