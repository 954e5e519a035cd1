"""The namespace's state: one small value that every structural change compares and replaces.

It is JSON, for operators to look at. Two states are never alike, for the revision's stamp is random: so a comparison of the value
also fails in a cluster that was restored from a snapshot and went another way since.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import uuid
from typing import Any

import attrs

from jobsync.backend import INITIAL, Leadership, NodeRef, Revision, Settings, Timeline
from jobsync.backends.etcd.chunked_log import NOTHING, ChunkedLog, Entry
from jobsync.errors import SchemaMismatch

__all__ = ['EtcdState', 'first_state', 'state_of']

SCHEMA_VERSION = 3
"""1 had all members in every record of the assignment; 2 had neither the longest timeout nor the nodes' clocks."""
BEFORE_ANY = dt.datetime.min.replace(tzinfo=dt.UTC)
NO_LEADER = Leadership(0, None)


@attrs.frozen
class EtcdState:
    """What the whole cluster shares, nodes apart."""

    settings: Settings
    timeline: Timeline
    revision: Revision = INITIAL
    version: Revision = INITIAL
    leadership: Leadership = NO_LEADER
    last_created: dt.datetime = BEFORE_ANY
    """The highest ``created_on`` ever given."""
    longest_timeout_sec: float = 0.0
    table: ChunkedLog = NOTHING
    """Where the assignment is."""
    locks: ChunkedLog = NOTHING
    lock_ids: int = 0
    """The highest id of a lock ever given."""
    locks_revision: int = 0

    def next_revision(self, at_least: int = 0) -> Revision:
        """Return the revision of a change to this."""
        return Revision(max(self.revision.number, at_least) + 1, secrets.randbits(62) + 1)

    def renewed(self, cluster: str, at_least: int = 0, longest_timeout_sec: float = 0.0) -> EtcdState:
        """Return the state at the start of the next timeline; nodes and chunks of the assignment are to go with it."""
        revision = self.next_revision(at_least)
        return attrs.evolve(
            self,
            timeline=Timeline(self.timeline.generation + 1, uuid.uuid4().hex, cluster),
            revision=revision,
            version=revision,
            leadership=Leadership(self.leadership.epoch, None),
            longest_timeout_sec=max(self.longest_timeout_sec, longest_timeout_sec),
            table=ChunkedLog((Entry(revision),)),
        )

    def encoded(self) -> bytes:
        """Return the form that is stored."""
        leader = self.leadership.node
        return json.dumps(
            {
                'schema_version': SCHEMA_VERSION,
                'settings': attrs.asdict(self.settings),
                'timeline': attrs.astuple(self.timeline),
                'revision': attrs.astuple(self.revision),
                'version': attrs.astuple(self.version),
                'epoch': self.leadership.epoch,
                'leader': leader and attrs.astuple(leader),
                'last_created': self.last_created.isoformat(),
                'longest_timeout_sec': self.longest_timeout_sec,
                'table': self.table.encoded(),
                'locks': self.locks.encoded(),
                'lock_ids': self.lock_ids,
                'locks_revision': self.locks_revision,
            },
            separators=(',', ':'),
        ).encode()


def first_state(settings: Settings, cluster: str) -> EtcdState:
    """Return the state of a namespace in which nothing has happened."""
    return EtcdState(settings, Timeline(0, uuid.uuid4().hex, cluster))


def state_of(value: bytes) -> EtcdState:
    """Return the state that is stored; raise ``SchemaMismatch`` if another version of jobsync has stored it."""
    try:
        data: dict[str, Any] = json.loads(value)
        if (found := data['schema_version']) != SCHEMA_VERSION:
            what_to_do = 'upgrade it' if found > SCHEMA_VERSION else 'use another appname, or the jobsync that made it'
            raise SchemaMismatch(
                f'the namespace has schema version {found}, and this jobsync needs version {SCHEMA_VERSION}: {what_to_do}'
            )
        leader = data['leader']
        return EtcdState(
            settings=Settings(**data['settings']),
            timeline=Timeline(*data['timeline']),
            revision=Revision(*data['revision']),
            version=Revision(*data['version']),
            leadership=Leadership(data['epoch'], leader and NodeRef(*leader)),
            last_created=dt.datetime.fromisoformat(data['last_created']),
            longest_timeout_sec=data['longest_timeout_sec'],
            table=ChunkedLog.of(data['table']),
            locks=ChunkedLog.of(data['locks']),
            lock_ids=data['lock_ids'],
            locks_revision=data['locks_revision'],
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SchemaMismatch(f'the state of the namespace cannot be read ({error!r}): another program has written it') from error
