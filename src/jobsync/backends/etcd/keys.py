"""Where in etcd a namespace keeps what.

Everything begins with ``jobsync/<namespace>/``. A namespace has no slash in it, so none sees into another.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import cached_property

import attrs

from jobsync.errors import ConfigError

__all__ = ['EtcdKeys']


@attrs.frozen(slots=False)
class EtcdKeys:
    """The keys of one namespace."""

    namespace: str

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch('[A-Za-z0-9_]+', self.namespace):
            raise ConfigError(f'appname={self.namespace!r} cannot begin the names of keys: letters, digits and underscores can')

    @cached_property
    def root(self) -> bytes:
        """How all of them begin. As with tables, case alone tells no two namespaces apart."""
        return f'jobsync/{self.namespace.lower()}/'.encode()

    @cached_property
    def state(self) -> bytes:
        """What the whole cluster shares: the one key that every structural change writes."""
        return self.root + b'state'

    @cached_property
    def nodes(self) -> bytes:
        """Records of nodes, by name."""
        return self.root + b'node/'

    def node(self, name: str) -> bytes:
        """A node's record."""
        return self.nodes + name.encode()

    @cached_property
    def tokens(self) -> bytes:
        """The assignment's records, in chunks."""
        return self.root + b'token/'

    @cached_property
    def locks(self) -> bytes:
        """The task locks' records, in chunks."""
        return self.root + b'lock/'

    @cached_property
    def rebalances(self) -> bytes:
        """Rebalances, by revision."""
        return self.root + b'rebalance/'

    @cached_property
    def claims(self) -> bytes:
        """Claims, by date."""
        return self.root + b'claim/'

    @cached_property
    def audits(self) -> bytes:
        """Audits, by date."""
        return self.root + b'audit/'

    @staticmethod
    def of_date(trail: bytes, date: dt.date | None) -> bytes:
        """The part of a trail that is of one date; all of it if that is None."""
        return trail if date is None else trail + date.isoformat().encode() + b'/'
