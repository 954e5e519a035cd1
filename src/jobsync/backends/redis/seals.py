"""Seals: how a record that jobsync wrote is told from what a person has put in its place (rule R9).

A record's text is stored with a digest of its key and itself in front. The scripts check the same seal (``common.lua``), so that
all methods agree on which records are there: one whose seal does not fit counts as absent, whatever was changed in it.
"""

from __future__ import annotations

import hashlib

__all__ = ['SpoiltError', 'sealed', 'unsealed']

LENGTH = 40


class SpoiltError(Exception):
    """A record's seal does not fit."""


def sealed(key: bytes, text: bytes) -> bytes:
    """Return a record's text with its seal in front."""
    return hashlib.sha1(key + b'\0' + text, usedforsecurity=False).hexdigest().encode() + text


def unsealed(key: bytes, raw: bytes) -> bytes:
    """Return the text of a sealed record; ``SpoiltError`` unless the seal is that of this text under this key."""
    text = raw[LENGTH:]
    if sealed(key, text) != raw:
        raise SpoiltError(f'{raw[:100].decode(errors="replace")!r} is not what jobsync wrote as {key.decode(errors="replace")!r}')
    return text
