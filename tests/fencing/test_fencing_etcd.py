"""etcd: a value is put unless a higher fence has put it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fencing.late import tell_of_a_late_write
from tests.fencing.places import etcd_of, refused_of_many

from jobsync import ConfigError, StaleFence
from jobsync.fencing import etcd_put

pytestmark = pytest.mark.etcd


@pytest.fixture
def client(etcd_server: Any) -> Iterator[Any]:
    """Of a server without the keys that are used here."""
    client = etcd_of(etcd_server.url())
    for key in ('x', 'f'):
        client.delete_prefix(key)
    yield client
    client.close()


def value_of(client: Any, key: str) -> bytes | None:
    found: bytes | None = client.get(key)[0]
    return found


def test_fences(client: Any) -> None:
    """Equal and higher fences are accepted, a lower one is refused, and changes nothing."""
    etcd_put(client, 'x', 'one', 7)
    etcd_put(client, 'x', 'two', 7)
    etcd_put(client, 'x', 'three', 10)
    with pytest.raises(StaleFence, match="key 'x' was not written under fence 9: 10 has written since"):
        etcd_put(client, 'x', 'four', 9)
    assert value_of(client, 'x') == b'three'
    assert value_of(client, 'x/fence') == b'0000000000000010'


def test_the_largest_numbers(client: Any) -> None:
    """They are compared exactly."""
    etcd_put(client, 'x', b'\xff', 2**53 - 1)
    with pytest.raises(StaleFence):
        etcd_put(client, 'x', 'two', 2**53 - 2)
    assert value_of(client, 'x') == b'\xff'


def test_writers_at_once(client: Any) -> None:
    """Of many first writers at once the highest fence is the last to be accepted, whoever comes when."""
    refused = refused_of_many(lambda fence: etcd_put(client, 'x', str(fence), fence))
    assert value_of(client, 'x') == b'19'
    assert 19 not in refused


class Meddled:
    """A client between whose first two transactions somebody else does something."""

    def __init__(self, client: Any, meddle: Any) -> None:
        self._client, self._meddle = client, [meddle]
        self.transactions = client.transactions
        self.calls = 0

    def transaction(self, **arguments: Any) -> Any:
        """As the client does it."""
        if self.calls == 1:
            self._meddle.pop()()
        self.calls += 1
        return self._client.transaction(**arguments)


def test_the_first_write_comes_second(client: Any) -> None:
    """Another's first write between the two comparisons counts: after a lower one this is done, after a higher one refused."""
    meddled = Meddled(client, lambda: etcd_put(client, 'x', 'other', 6))
    etcd_put(meddled, 'x', 'mine', 7)
    assert meddled.calls == 3
    assert value_of(client, 'x') == b'mine'
    client.delete_prefix('x')
    with pytest.raises(StaleFence, match='8 has written since'):
        etcd_put(Meddled(client, lambda: etcd_put(client, 'x', 'other', 8)), 'x', 'mine', 7)
    assert value_of(client, 'x') == b'other'


def test_a_key_of_ones_own(client: Any) -> None:
    """The fence can be kept elsewhere."""
    etcd_put(client, 'x', 'one', 7, fence_key='f')
    assert value_of(client, 'f') == b'0000000000000007'
    with pytest.raises(ConfigError, match='not empty'):
        etcd_put(client, '', 'one', 7)


@pytest.mark.parametrize('key', ['x/fence', 'x/fence/fence', '/fence'])
def test_keys_of_fences_are_no_values(client: Any, key: str) -> None:
    """A key under which the fence of another is kept is refused, and so is a fence in the value's own place."""
    etcd_put(client, 'x', 'one', 7)
    with pytest.raises(ConfigError, match='fence of another key'):
        etcd_put(client, key, 'one', 7)
    with pytest.raises(ConfigError, match='fence_key is'):
        etcd_put(client, 'x', 'two', 7, fence_key='x')
    assert (value_of(client, 'x'), value_of(client, 'x/fence')) == (b'one', b'0000000000000007')


def test_a_late_write(etcd_server: Any, tmp_path: Path) -> None:
    """Of a process that was stopped until another owned its task."""
    tell_of_a_late_write(tmp_path, etcd_server.url())
