"""Task id -> key -> token.

Records, pins and log lines name a task by its *key*, which is ``str(id)``; so ``7`` and ``'7'`` are one task.
The key's UTF-8 bytes are hashed, and the hash modulo the size of the pool is the token. Every node must come to the same
token, so both the hash function and the size of the pool are cluster settings, and ``str(id)`` must not differ between
processes.

======================  =====================================================
``xxh3`` (default)      XXH3, 64 bits, seed 0
``md5``                 the whole digest as one big-endian integer
``sha256``              the digest's first 8 bytes as a big-endian integer
``double_sha256``       the first 8 bytes of ``sha256(sha256(key).digest())``, likewise
======================  =====================================================
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import md5, sha256
from itertools import islice
from struct import Struct
from types import MemberDescriptorType

from xxhash import xxh3_64_intdigest

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['DEFAULT_HASH', 'HASH_FUNCTIONS', 'hasher', 'task_key', 'tokenizer']

DEFAULT_HASH = 'xxh3'
HASH_FUNCTIONS = (DEFAULT_HASH, 'md5', 'sha256', 'double_sha256')


_NO_IDS = (bool, float, bytes, bytearray, memoryview)
"""Types whose values are ids only by mistake: a column with gaps, a comparison, a key that was not decoded."""
_BOOLS = ('bool_', 'bool')
"""The names of the types of numpy's True, by its version."""
_ADDRESS = re.compile(' at 0x[0-9A-Fa-f]{6,}[>,;]')
"""What Python gives an object, a function or a generator as its text, also within a tuple; no path or text that names one."""
_SET_REPRS = (set.__repr__, frozenset.__repr__)
"""A class of sets with another one, which sorts perhaps, has its own text."""
_MOST_PARTS = 1000
"""How many values within an id are searched for sets, at most."""

_FIRST_8 = Struct('>Q').unpack_from
"""Unpack the first 8 bytes of a digest as a big-endian integer."""


def task_key(task_id: object) -> str:
    """Return the key of a task: ``str(task_id)``.

    Raises ``ConfigError`` for an id that cannot be hashed; for one whose text differs from process to process, being the address
    of an object, or a set of several in the order of its hashes; and for one whose text no store can record: with a lone
    surrogate (as ``os.listdir`` makes of a file name that is not UTF-8) or a NUL. So such an id is refused before the work is
    done, not after. Also refused is what is an id by mistake: None, a bool, a float (``7.0`` would be another task than ``7``),
    bytes, an empty text, and what is not equal to itself.
    """
    key = task_id if type(task_id) is str else _text(task_id)
    # Nearly every key is printable, and a printable key needs no further check.
    if not key or not key.isprintable():
        _check_storable(key)
    return key


def tokenizer(hash_function: str, total_tokens: int) -> Callable[[str], int]:
    """Return a function from a task's key to its token, in ``range(total_tokens)``.

    The function raises ``ConfigError`` for a key with a lone surrogate, which has no UTF-8.
    """
    if isinstance(total_tokens, bool) or not isinstance(total_tokens, int) or total_tokens < 1:
        raise ConfigError(f'total_tokens is {safe_repr(total_tokens)}: must be an integer of at least 1')
    digest = hasher(hash_function)

    def token(key: str) -> int:
        try:
            return digest(key.encode()) % total_tokens
        except UnicodeEncodeError as error:
            raise _no_utf8(key) from error

    return token


def hasher(hash_function: str) -> Callable[[bytes], int]:
    """Return the function from a key's UTF-8 bytes to the integer whose remainder is the token."""
    digest = _DIGESTS.get(hash_function) if isinstance(hash_function, str) else None
    if digest is None:
        raise ConfigError(f'hash_function is {safe_repr(hash_function)}: must be one of {", ".join(HASH_FUNCTIONS)}')
    return digest


def _md5(data: bytes) -> int:
    return int.from_bytes(md5(data, usedforsecurity=False).digest(), 'big')


def _sha256(data: bytes) -> int:
    first: int = _FIRST_8(sha256(data).digest())[0]
    return first


def _double_sha256(data: bytes) -> int:
    first: int = _FIRST_8(sha256(sha256(data).digest()).digest())[0]
    return first


_DIGESTS: dict[str, Callable[[bytes], int]] = {
    'xxh3': xxh3_64_intdigest,
    'md5': _md5,
    'sha256': _sha256,
    'double_sha256': _double_sha256,
}


def _text(task_id: object) -> str:
    try:
        if type(task_id) is int:
            return str(task_id)
        _check_kind(task_id)
        hash(task_id)
        # ``str`` returns what a class has as ``__str__``: also a text of a class that compares, hashes or encodes in its own way.
        # As a key that would be another task here than its characters are elsewhere.
        text = str.__str__(str(task_id))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f'task id {safe_repr(task_id)}: must be hashable and have a text ({error})') from error
    if isinstance(task_id, str):
        return text
    if _ADDRESS.search(text):
        raise ConfigError(f'task id {safe_repr(task_id)}: its text is an address, another in each process; define __str__')
    if _shows_set(task_id, text):
        raise ConfigError(f'task id {safe_repr(task_id)}: a set of several has another text in each process; use a sorted tuple')
    return text


def _shows_set(task_id: object, text: str) -> bool:
    """Return whether the text has that of a set of several. Its order depends on hashes, which differ from process to process."""
    if '{' not in text:
        return False
    waiting, seen = [task_id], set[int]()
    with suppress(Exception):  # of the code of a class: its text has been made, and that is what counts
        while waiting and len(seen) < _MOST_PARTS:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, (set, frozenset)) and len(value) > 1:
                if type(value).__repr__ in _SET_REPRS and repr(value) in text:
                    return True
            else:
                waiting.extend(islice(_parts(value), _MOST_PARTS))
    return False


def _parts(value: object) -> Iterator[object]:
    """Yield what a value holds, without a call of its class: a property may do I/O, and so may a field that is read lazily."""
    if isinstance(value, (tuple, list, set, frozenset)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    else:
        yield from getattr(value, '__dict__', {}).values()
        for kind in type(value).__mro__:
            for slot in vars(kind).values():
                if isinstance(slot, MemberDescriptorType):
                    with suppress(AttributeError):  # it has no value yet
                        yield slot.__get__(value)


def _check_kind(task_id: object) -> None:
    """Refuse what is an id only by mistake; floats and bools of numpy too, and missing values, which do not equal themselves."""
    if not (
        task_id is None
        or isinstance(task_id, _NO_IDS)
        or type(task_id).__name__ in _BOOLS
        or (isinstance(task_id, numbers.Real) and not isinstance(task_id, numbers.Rational))
        or task_id != task_id
    ):
        return
    raise ConfigError(
        f'task id {safe_repr(task_id)}: must be a string, an int or another value with a text of its own, not None, a bool, '
        'a float or bytes; convert it with str, int or decode'
    )


def _check_storable(key: str) -> None:
    if not key:
        raise ConfigError(f'task id {safe_repr(key)}: must not be empty')
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise _no_utf8(key) from error
    if '\0' in key:
        raise ConfigError(f'task id {safe_repr(key)}: must not contain a NUL character')


def _no_utf8(key: str) -> ConfigError:
    return ConfigError(f'task id {safe_repr(key)}: must be text that has a UTF-8 form, without lone surrogates')
