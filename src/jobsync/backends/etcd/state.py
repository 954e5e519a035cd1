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

from jobsync.backends.etcd.chain import Chain, Entry
from jobsync.core.model import INITIAL, Leadership, NodeRef, Revision, Settings, Timeline
from jobsync.errors import SchemaMismatch

__all__ = ['State', 'first_state', 'state_of']

SCHEMA_VERSION = 2
"""1 had all members in every record of the assignment."""
BEFORE_ANY = dt.datetime.min.replace(tzinfo=dt.UTC)
NO_LEADER = Leadership(0, None)
NOTHING = Chain((Entry(INITIAL),))


@attrs.frozen
class State:
    """What the whole cluster shares, nodes apart."""

    settings: Settings
    timeline: Timeline
    revision: Revision = INITIAL
    version: Revision = INITIAL
    leadership: Leadership = NO_LEADER
    last_created: dt.datetime = BEFORE_ANY
    """The highest ``created_on`` ever given."""
    table: Chain = NOTHING
    """Where the assignment is."""
    locks: Chain = NOTHING
    lock_ids: int = 0
    """The highest id of a lock ever given."""
    locks_revision: int = 0

    def next_revision(self, at_least: int = 0) -> Revision:
        """The revision of a change to this."""
        return Revision(max(self.revision.number, at_least) + 1, secrets.randbits(62) + 1)

    def renewed(self, cluster: str, at_least: int = 0) -> State:
        """The state at the start of the next timeline; the nodes and the chunks of the assignment go with it."""
        revision = self.next_revision(at_least)
        return attrs.evolve(
            self,
            timeline=Timeline(self.timeline.generation + 1, uuid.uuid4().hex, cluster),
            revision=revision,
            version=revision,
            leadership=Leadership(self.leadership.epoch, None),
            table=Chain((Entry(revision),)),
        )

    def encoded(self) -> bytes:
        """As it is stored."""
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
                'table': self.table.encoded(),
                'locks': self.locks.encoded(),
                'lock_ids': self.lock_ids,
                'locks_revision': self.locks_revision,
            },
            separators=(',', ':'),
        ).encode()


def first_state(settings: Settings, cluster: str) -> State:
    """A namespace in which nothing has happened."""
    return State(settings, Timeline(0, uuid.uuid4().hex, cluster))


def state_of(value: bytes) -> State:
    """The state that is stored; ``SchemaMismatch`` if another version of jobsync has stored it."""
    try:
        data: dict[str, Any] = json.loads(value)
        if data['schema_version'] > SCHEMA_VERSION:
            raise SchemaMismatch(
                f'the namespace has schema version {data["schema_version"]}, and this jobsync knows versions up to '
                f'{SCHEMA_VERSION}: upgrade it'
            )
        if data['schema_version'] < SCHEMA_VERSION:
            raise SchemaMismatch(
                f'the namespace has schema version {data["schema_version"]}, and this jobsync needs {SCHEMA_VERSION}: use '
                'another appname, or the jobsync that made it'
            )
        leader = data['leader']
        return State(
            settings=Settings(**data['settings']),
            timeline=Timeline(*data['timeline']),
            revision=Revision(*data['revision']),
            version=Revision(*data['version']),
            leadership=Leadership(data['epoch'], leader and NodeRef(*leader)),
            last_created=dt.datetime.fromisoformat(data['last_created']),
            table=Chain.of(data['table']),
            locks=Chain.of(data['locks']),
            lock_ids=data['lock_ids'],
            locks_revision=data['locks_revision'],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise SchemaMismatch(f'the state of the namespace cannot be read ({error!r}): another program has written it') from error
