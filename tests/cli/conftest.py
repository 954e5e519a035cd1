"""A cluster of two nodes in this process, and calls of the commands on it."""

from __future__ import annotations

import itertools

import pytest
from click.testing import CliRunner, Result

from jobsync import plugins
from jobsync.backend import BackendOptions, Member, TokenGroup
from jobsync.cli.commands import cli
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import TOKENS

_numbers = itertools.count()


def invoke(url: str, *arguments: str) -> Result:
    return CliRunner(env={'JOBSYNC_BACKEND': url, 'COLUMNS': '200'}).invoke(cli, arguments)


@pytest.fixture
def url() -> str:
    """A store of its own for each test, in this process."""
    return f'memory://commands-{next(_numbers)}'


@pytest.fixture
def namespace(url: str) -> Namespace:
    """Two nodes that share all tokens."""
    namespace = Namespace(plugins.connect(url, BackendOptions()))
    leader, other = namespace.leader('a'), namespace.join('b')
    members = {ref.name: Member(ref.incarnation, 15.0) for ref in (leader, other)}
    halves = TokenGroup(range(12), 'a'), TokenGroup(range(12, TOKENS), 'b')
    version = namespace.commit(leader, *halves, members=members, moved=TOKENS, reason='first distribution')
    for ref in (leader, other):
        namespace.beat(ref, version)
    return namespace
