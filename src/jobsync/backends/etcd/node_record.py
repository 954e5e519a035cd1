"""The form in which a node's record is stored."""

from __future__ import annotations

import base64
import datetime as dt
import json
from itertools import accumulate
from typing import Any

import attrs

from jobsync.backend import Node
from jobsync.backends._common.values import LONGEST_TIMEOUT_SEC, MOST_WEIGHT
from jobsync.backends.etcd.json_form import UNREADABLE, from_form, to_json
from jobsync.backends.etcd.packing import packed, unpacked

__all__ = ['NodeRecord', 'record_of']

MOST_LISTED = 10_000
"""Tokens that a record lists. Of more it has their differences, compressed, so that a record of any number fits a request."""


@attrs.frozen
class NodeRecord:
    """A node, and what its last heartbeat said about the time; ``node.last_heartbeat`` is the earliest the time may be."""

    node: Node
    clock: dt.datetime
    """The wall clock of the node's machine."""
    latest: dt.datetime
    """The latest that the store's time may be."""

    def encoded(self) -> bytes:
        """Return the form that is stored."""
        node = attrs.asdict(self.node, recurse=False) | {'holding': _stored_tokens(sorted(self.node.holding))}
        return to_json({'node': node, 'clock': self.clock, 'latest': self.latest})


def record_of(name: str, value: bytes) -> NodeRecord:
    """Return the record of this name from what is stored; raise ``ValueError`` for one that jobsync did not write (rule R9)."""
    try:
        form = json.loads(value)
        form['node']['holding'] = _tokens_of(form['node']['holding'])
        record = from_form(NodeRecord, form)
    except UNREADABLE as error:
        raise ValueError(f'the record is not one of jobsync ({error}): it is left out') from error
    node = record.node
    is_sound = 0 <= node.weight <= MOST_WEIGHT and 0 < node.timeout_sec <= LONGEST_TIMEOUT_SEC
    if node.name != name or node.heartbeat < 0 or not is_sound:
        found = f'name={node.name!r}, heartbeat={node.heartbeat}, weight={node.weight}, timeout_sec={node.timeout_sec}'
        raise ValueError(f'no node at this key has {found}: it is left out')
    return record


def _stored_tokens(tokens: list[int]) -> list[int] | str:
    """Return the form of tokens, which rise."""
    if len(tokens) <= MOST_LISTED:
        return tokens
    steps = [token - before for before, token in zip([0, *tokens], tokens, strict=False)]
    return base64.b64encode(packed(to_json(steps))).decode()


def _tokens_of(form: Any) -> Any:
    return list(accumulate(json.loads(unpacked(base64.b64decode(form, validate=True))))) if isinstance(form, str) else form
