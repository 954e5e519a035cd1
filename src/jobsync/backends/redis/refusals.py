"""What a script's refusal means: the first word of its answer as an exception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobsync.backends.redis import records
from jobsync.errors import ConfigError, Conflict, Evicted, Fenced, NameTaken, SchemaMismatch, TimelineChanged

__all__ = ['SCHEMA', 'refusal']

SCHEMA = '3'
"""The form of the keys and what is in them. 1 kept the members in one text; 2 had no seals."""


def refusal(status: str, told: Sequence[bytes], named: Mapping[str, object], server: str, namespace: str) -> Exception:
    """The exception for a status that is not ``ok``; ``told`` is what followed it, ``named`` what the script was given."""
    match status:
        case 'SchemaMismatch' if told:
            return SchemaMismatch(
                f'{server}: the namespace {namespace!r} has format {told[0].decode()}, '
                f'this version of jobsync knows format {SCHEMA}: use another appname, or the jobsync that made it'
            )
        case 'SchemaMismatch':
            return SchemaMismatch(f'{server} has no namespace {namespace!r}; open it with create=True')
        case 'Evicted':
            return Evicted(f'node {named["name"]!r} is no longer registered as incarnation {named["run"]}; register it anew')
        case 'Fenced':
            return Fenced(f'node {named["name"]!r} no longer leads in epoch {named["epoch"]}: this is {told[0].decode()}')
        case 'Conflict':
            return Conflict(f'the plan does not fit any more: {told[0].decode()}')
        case 'TimelineChanged':
            return TimelineChanged(f'node {named["name"]!r} wants to register in another timeline than the present one')
        case 'NameTaken':
            return NameTaken(records.node_of(str(named['name']), told[0]))
        case 'Forbidden':
            return ConfigError(f'{server}: this user may not do what is needed: {told[0].decode()}')
    return AssertionError(f'a script answers {status!r}')
