"""Compression whose result tells how much may come out of it: a small value cannot fill a reader's memory."""

from __future__ import annotations

import zlib

__all__ = ['packed', 'unpacked']

MOST_TIMES = 64
"""Bytes that come out of one byte."""
IN_ANY_CASE = 1024 * 1024
"""Bytes that may come out of a value however small it is."""


def packed(data: bytes) -> bytes:
    """Return the data compressed, or merely wrapped where compression does better than a reader accepts."""
    small = zlib.compress(data, 1)
    return small if len(data) <= most_from(small) else zlib.compress(data, 0)


def unpacked(value: bytes) -> bytes:
    """Return what ``packed`` was given; raise ``ValueError`` for a value that ``packed`` did not make."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(value, most_from(value) + 1)
    except zlib.error as error:
        raise ValueError(f'not compressed: {error}') from error
    if len(data) > most_from(value):
        raise ValueError(f'{len(value)} bytes expand to more than {most_from(value)}')
    if not stream.eof:
        raise ValueError('the end of the compressed data is missing')
    return data


def most_from(value: bytes) -> int:
    """Return how many bytes may come out of a value."""
    return max(IN_ANY_CASE, MOST_TIMES * len(value))
