"""A node's record as it is stored: JSON, for operators to look at."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import reprlib
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import attrs

from jobsync.backend import Node, NodeState, Revision
from jobsync.backends.etcd.packing import packed, unpacked

__all__ = ['NodeRecord', 'record_of']


MOST_LISTED = 10_000
"""Tokens that a record lists; of more there are their differences, compressed, so that a record of any number fits a request."""


@attrs.frozen
class NodeRecord:
    """A node, and what it told of the time with its last heartbeat, of which ``last_heartbeat`` is the earliest it may be."""

    node: Node
    clock: dt.datetime
    """What the clock of the node's machine said."""
    latest: dt.datetime
    """The latest that the store's time may be."""

    def encoded(self) -> bytes:
        """Return the form that is stored."""
        node = self.node
        fields: dict[str, Any] = attrs.asdict(node, recurse=False) | {
            'seen': attrs.astuple(node.seen),
            'holding': stored_tokens(sorted(node.holding)),
            'state': node.state.value,
            'replaces': sorted(node.replaces),
            'created_on': node.created_on.isoformat(),
            'last_heartbeat': node.last_heartbeat and node.last_heartbeat.isoformat(),
            'clock': self.clock.isoformat(),
            'latest': self.latest.isoformat(),
        }
        return json.dumps(fields, separators=(',', ':')).encode()


def record_of(name: str, value: bytes) -> NodeRecord:
    """Return the record of this name from what is stored; raise ``ValueError`` for one that jobsync did not write (rule R9)."""
    try:
        fields = json.loads(value)
        clock, latest = (dt.datetime.fromisoformat(fields.pop(field)) for field in ('clock', 'latest'))
        beat = fields['last_heartbeat']
        node = Node(
            **{
                **fields,
                'seen': Revision(*fields['seen']),
                'holding': frozenset(tokens_of(fields['holding'])),
                'state': NodeState(fields['state']),
                'replaces': frozenset(fields['replaces']),
                'created_on': dt.datetime.fromisoformat(fields['created_on']),
                'last_heartbeat': None if beat is None else dt.datetime.fromisoformat(beat),
            }
        )
        spoilt = [field for field, is_sound in checks(node, name).items() if not is_sound]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, AttributeError) as error:
        raise ValueError(f'the record is not one of jobsync ({reprlib.repr(error)}): it is left out') from error
    if spoilt:
        found = ', '.join(f'{field}={reprlib.repr(fields[field])}' for field in spoilt)
        raise ValueError(f'no node has {found}: the record is left out')
    if not clock.tzinfo or not latest.tzinfo:
        raise ValueError(f'no node has clock={clock}, latest={latest}: the record is left out')
    return NodeRecord(node, clock, latest)


def stored_tokens(tokens: list[int]) -> list[int] | str:
    """Return the form in which tokens, which rise, are stored."""
    if len(tokens) <= MOST_LISTED:
        return tokens
    steps = [token - before for before, token in zip([0, *tokens], tokens, strict=False)]
    return base64.b64encode(packed(json.dumps(steps, separators=(',', ':')).encode())).decode()


def tokens_of(stored: Any) -> Iterable[int]:
    """Return the tokens that are stored."""
    return accumulate(json.loads(unpacked(base64.b64decode(stored, validate=True)))) if isinstance(stored, str) else stored


def checks(node: Node, name: str) -> dict[str, bool]:
    """Return for each field that the constructor takes unseen whether it holds what it may."""
    return {
        'name': node.name == name,
        'incarnation': isinstance(node.incarnation, str),
        'heartbeat': isinstance(node.heartbeat, int) and node.heartbeat >= 0,
        'seen': isinstance(node.seen.number, int) and isinstance(node.seen.stamp, int),
        'holding': all(isinstance(token, int) for token in node.holding),
        'replaces': all(isinstance(incarnation, str) for incarnation in node.replaces),
        'weight': math.isfinite(node.weight) and node.weight >= 0,
        'timeout_sec': math.isfinite(node.timeout_sec) and node.timeout_sec > 0,
        'host': isinstance(node.host, str),
        'pid': isinstance(node.pid, int),
        'created_on': node.created_on.tzinfo is not None,
        'last_heartbeat': node.last_heartbeat is None or node.last_heartbeat.tzinfo is not None,
        'candidate': isinstance(node.candidate, bool),
    }
