"""The namespace's state: one small record that every structural change compares and replaces.

Two states never have the same value, for the revision's stamp is random. So a comparison of the value also fails in a cluster
that was restored from a snapshot and has changed since.
"""

from __future__ import annotations

import datetime as dt
import functools
import json

import attrs

from jobsync.backend import INITIAL, Leadership, Revision, Settings, Timeline
from jobsync.backends._common.values import BEFORE_ANY, LAST, LONGEST_TIMEOUT_SEC, NO_LEADER, draw_id, next_revision
from jobsync.backends.etcd.chunked_log import EMPTY, ChunkedLog, LogEntry
from jobsync.backends.etcd.json_form import UNREADABLE, from_form, to_json
from jobsync.errors import SchemaMismatch

__all__ = ['EtcdState', 'state_of']

SCHEMA_VERSION, OLDER = 5, 4
"""The form of the records, and the one before it, from which a node that makes namespaces upgrades. 1 had all members in every
record of the assignment, 2 had neither the longest timeout nor the nodes' clocks, 3 had other forms of most records, 4 had nodes
without settings and without stalled."""

_REMEDIES = {
    OLDER: 'start one node without skip_db_init, it upgrades the namespace, and older nodes own nothing from then on; to look or '
    'steer before that, use the jobsync of these nodes'
}
_OTHER = 'use another appname, or the jobsync that made it'


@attrs.frozen
class EtcdState:
    """What the whole cluster shares, except the nodes."""

    settings: Settings
    timeline: Timeline
    revision: Revision = INITIAL
    version: Revision = INITIAL
    leadership: Leadership = NO_LEADER
    last_created: dt.datetime = BEFORE_ANY
    """The highest ``created_on`` ever given."""
    longest_timeout_sec: float = 0.0
    assignment: ChunkedLog = EMPTY
    locks: ChunkedLog = EMPTY
    highest_lock_id: int = 0
    """The highest id ever given to a task lock."""
    locks_revision: int = 0
    schema_version: int = SCHEMA_VERSION

    def renewed(self, cluster: str, at_least: int = 0, longest_timeout_sec: float = 0.0) -> EtcdState:
        """Return the state at the start of the next timeline, which has neither nodes nor records of the assignment."""
        revision = next_revision(self.revision, at_least)
        return attrs.evolve(
            self,
            timeline=Timeline(self.timeline.generation + 1, draw_id(), cluster),
            revision=revision,
            version=revision,
            leadership=Leadership(self.leadership.epoch, None),
            longest_timeout_sec=max(self.longest_timeout_sec, longest_timeout_sec),
            assignment=ChunkedLog((LogEntry(revision.number, revision.stamp),)),
        )

    def encoded(self) -> bytes:
        """Return the form that is stored."""
        return to_json(self)


@functools.lru_cache(maxsize=16)
def state_of(value: bytes, *, upgrades: bool = False) -> EtcdState:
    """Return the state that is stored; raise ``SchemaMismatch`` if another version of jobsync has stored it.

    With ``upgrades`` that of the version before is returned in the present form. Only ``open`` stores it: a command that did so
    by its first change would end the work of that version's nodes. Remembers the last values, for most heartbeats read the value
    that the heartbeat before them read.
    """
    try:
        form = json.loads(value)
        found = form['schema_version']
        if found == OLDER and upgrades:
            form['schema_version'] = SCHEMA_VERSION  # records get what they lack when they are read (_NEW)
        elif found != SCHEMA_VERSION:
            what_to_do = 'install the newer jobsync here too' if found > SCHEMA_VERSION else _REMEDIES.get(found, _OTHER)
            raise SchemaMismatch(
                f'the namespace has schema version {found}, and this jobsync needs version {SCHEMA_VERSION}: {what_to_do}'
            )
        return _checked(from_form(EtcdState, form))
    except UNREADABLE as error:
        raise SchemaMismatch(
            f'the state of the namespace cannot be read ({error!r}): another program has written it; put back what was there, or '
            'stop all nodes and delete the keys of the namespace'
        ) from error


def _checked(state: EtcdState) -> EtcdState:
    """Return a state; raise ``ValueError`` if nodes could not go on from it."""
    # Nodes remember the longest timeout, and write it again with the next timeline: one that no node has would be waited for.
    if not 0 <= state.longest_timeout_sec <= LONGEST_TIMEOUT_SEC:
        raise ValueError(f'longest_timeout_sec is {state.longest_timeout_sec}')
    if state.last_created > LAST:
        raise ValueError(f'last_created is {state.last_created}, and no time comes after it')
    return state
