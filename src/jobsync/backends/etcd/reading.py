"""What some keys held at one moment, and what that says about the namespace and its nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import attrs

from jobsync.backend import Node, NodeRef, NodeState, Unreadable, evicted
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.keys import EtcdKeys
from jobsync.backends.etcd.node_record import NodeRecord, record_of
from jobsync.backends.etcd.state import EtcdState, state_of
from jobsync.errors import SchemaMismatch

__all__ = ['KeyReading']


@attrs.frozen
class KeyReading:
    """The values of the keys that were read, at one revision of etcd."""

    values: Mapping[bytes, bytes]
    """Only keys that exist."""
    keys: EtcdKeys
    cluster: str = ''
    """The store's own identity; empty if the values are remembered rather than read."""
    at: int = 0
    """etcd's revision at that moment."""

    @property
    def state(self) -> EtcdState:
        """The namespace's state; raises ``SchemaMismatch`` if there is none."""
        value = self.values.get(self.keys.state)
        if value is None:
            raise SchemaMismatch(
                f'there is no namespace {self.keys.namespace!r} in this etcd; a worker without skip_db_init=True makes it'
            )
        return state_of(value)

    def agrees(self, other: KeyReading, *keys: bytes) -> bool:
        """Return whether these keys have the same values, or are absent, in both readings."""
        return all(self.values.get(key) == other.values.get(key) for key in keys)

    def check_namespace(self) -> None:
        """Raise ``SchemaMismatch`` if the values were read, and there is no namespace."""
        if self.cluster:
            self.state  # noqa: B018

    def same(self, key: bytes) -> Any:
        """Compare: the key is as it was read."""
        value = self.values.get(key)
        return requests.is_absent(key) if value is None else requests.is_value(key, value)

    def record(self, name: str) -> NodeRecord | None:
        """Return a node's record; one that cannot be read counts as absent (rule R9)."""
        value = self.values.get(self.keys.node(name))
        with contextlib.suppress(ValueError):
            return None if value is None else record_of(name, value)
        return None

    def node(self, name: str) -> Node | None:
        """Return a node."""
        record = self.record(name)
        return record.node if record else None

    def joined(self, ref: NodeRef) -> NodeRecord:
        """Return the record of ``ref``; raise ``Evicted`` unless exactly that incarnation is JOINED.

        Raises ``SchemaMismatch`` if the values were read, the state among them, and there is no namespace.
        """
        record = self.record(ref.name)
        is_joined = record is not None and record.node.ref == ref and record.node.state is NodeState.JOINED
        # t=0  a person deletes the key of the state alone
        # t=1  a heartbeat finds its node's record as this handle left it, and writes where there is a state: it is refused
        # t=2  the record is still the same, and so is each attempt. A node that learns that there is no namespace makes it anew
        self.check_namespace()
        if record is None or not is_joined:
            raise evicted(ref)
        return record

    def records(self) -> tuple[list[NodeRecord], list[Unreadable]]:
        """Return the records of all nodes that were read, and those that cannot be read (rule R9)."""
        records, unreadable = list[NodeRecord](), list[Unreadable]()
        for key, value in self.values.items():
            if key.startswith(self.keys.nodes):
                name = key.removeprefix(self.keys.nodes).decode(errors='replace')
                try:
                    records.append(record_of(name, value))
                except ValueError as error:
                    unreadable.append(Unreadable('node', name, str(error)))
        return records, unreadable
