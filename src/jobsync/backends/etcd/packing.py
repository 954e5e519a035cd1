"""Compression that bounds what a value expands to, so that a small value cannot fill a reader's memory."""

from __future__ import annotations

import zlib

__all__ = ['packed', 'unpacked']

MOST_TIMES = 64
"""Bytes that may come out of one byte."""
IN_ANY_CASE = 1024 * 1024
"""Bytes that may come out of a value, however small the value is."""


def packed(data: bytes) -> bytes:
    """Return the data compressed, or only wrapped where the compressed form would expand beyond the bound."""
    small = zlib.compress(data, 1)
    return small if len(data) <= _most_from(small) else zlib.compress(data, 0)


def unpacked(value: bytes) -> bytes:
    """Return what ``packed`` was given; raise ``ValueError`` for a value that ``packed`` did not make."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(value, _most_from(value) + 1)
    except zlib.error as error:
        raise ValueError(f'not compressed: {error}') from error
    if len(data) > _most_from(value):
        raise ValueError(f'{len(value)} bytes expand to more than {_most_from(value)}')
    if not stream.eof:
        raise ValueError('the end of the compressed data is missing')
    return data


def _most_from(value: bytes) -> int:
    return max(IN_ANY_CASE, MOST_TIMES * len(value))
