"""Items, which ``read_locks`` and ``edit_locks`` keep beside the task locks, and the groups of pins."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jobsync.backend import LockEdit, LockFilter, LockRequest, Pin, TaskLock
from jobsync.testing.conformance.namespace import TOKENS, Namespace

__all__ = ['ItemTests']


def declare(namespace: Namespace, group: str, *tasks: str, cost: float = 1.0, by: str = 'me', **remove: Any) -> int:
    """Put items of a group, or locks if the group is empty, after removing those that meet the conditions in ``remove``."""
    put = tuple(LockRequest(task, ('%',), by, cost=cost) for task in tasks)
    return namespace.backend.edit_locks(LockEdit(LockFilter(**remove) if remove else None, put, group))


def keys(namespace: Namespace) -> list[tuple[str, str]]:
    """Return group and task of every lock and item, by their ids."""
    return [(lock.group, lock.task_id) for lock in namespace.backend.read_locks().locks]


class ItemTests:
    """Items. One that is lost, or taken for a lock, is in no node's share or in another's."""

    def test_an_item_is_stored_whole(self, namespace: Namespace) -> None:
        """An item has every field of its request and its group, and changes the locks' revision."""
        with namespace.raises_revision():
            put = (LockRequest('x', ('b_%', 'a'), 'someone', 'why', cost=1 / 3), LockRequest('y', ('%',), 'me', cost=1e6))
            assert namespace.backend.edit_locks(LockEdit(None, put, 'feeds')) == 0
        snapshot = namespace.snapshot()
        x, y = namespace.backend.read_locks().locks
        assert x == TaskLock(
            x.id, 'x', ('b_%', 'a'), 'why', 'someone', x.created_at, None, snapshot.revision.number, 'feeds', 1 / 3
        )
        assert (y.group, y.cost, y.id) == ('feeds', 1e6, x.id + 1)
        assert snapshot.locks_revision == snapshot.revision.number

    def test_a_task_has_a_lock_and_items(self, namespace: Namespace) -> None:
        """The lock of a task and its items in several groups are apart, and have one numbering."""
        groups = ('', 'g', 'h', 'G', 'g%', ' g', 'g ', 'ǵ', 'g\u0301')
        for group in groups:
            declare(namespace, group, 'x', 'y')
        assert keys(namespace) == [(group, task) for group in groups for task in ('x', 'y')]
        ids = [lock.id for lock in namespace.backend.read_locks().locks]
        assert ids == sorted(set(ids))

    def test_groups_and_tasks_that_look_alike_in_one_string(self, namespace: Namespace) -> None:
        """Items whose group and task are the same when they are joined are different items."""
        separators = (':', '/', '|', '#', ' ', '\x1f', '.')
        for each in separators:
            declare(namespace, 'a', f'b{each}c')
            declare(namespace, f'a{each}b', 'c')
        assert keys(namespace) == [key for each in separators for key in (('a', f'b{each}c'), (f'a{each}b', 'c'))]

    @pytest.mark.parametrize('group', ['', 'g'])
    @pytest.mark.parametrize('remove', [{'created_by': None}, {'created_by': 'me'}, {'task_ids': frozenset({'x'})}])
    def test_an_edit_removes_of_its_group_only(self, namespace: Namespace, group: str, remove: dict[str, Any]) -> None:
        """Removing locks leaves items, and removing items leaves locks and the items of other groups."""
        for each in ('', 'g', 'gg'):
            declare(namespace, each, 'x')
        assert declare(namespace, group, **remove) == 1
        assert keys(namespace) == [(each, 'x') for each in ('', 'g', 'gg') if each != group]
        with namespace.unchanged():
            assert declare(namespace, group, expired=True) == declare(namespace, 'none', created_by=None) == 0

    def test_pins_keep_their_group(self, namespace: Namespace) -> None:
        """The group of a pin is read as it was committed, with an owner or without one, until it is committed anew."""
        leader = namespace.leader()
        pins = (Pin(TOKENS + 1, 'x', 'a', group='feeds'), Pin(TOKENS + 2, 'y', None, group='G" \\'), Pin(TOKENS + 3, 'z', 'a'))
        namespace.commit(leader, pins=pins)
        assert [pin.group for pin in namespace.pins().values()] == ['feeds', 'G" \\', '']
        namespace.commit(leader, pins=(attrs.evolve(pins[0], group=''), attrs.evolve(pins[2], group='feeds')))
        assert [pin.group for pin in namespace.pins().values()] == ['', 'G" \\', 'feeds']

    def test_a_task_has_a_pin_in_each_group(self, namespace: Namespace) -> None:
        """The pins of one task, as its lock and as an item of several groups, are apart: each is put and removed by its id."""
        leader, groups = namespace.leader(), ('', 'g', 'h')
        pins = [Pin(TOKENS + number, 'x', f'n{number}', group=group) for number, group in enumerate(groups, 1)]
        for pin in pins:
            namespace.commit(leader, pins=(pin,))
        assert {pin.group: pin.owner for pin in namespace.pins().values()} == {'': 'n1', 'g': 'n2', 'h': 'n3'}
        namespace.commit(leader, unpinned=frozenset({pins[1].id}))
        assert {pin.group: pin.owner for pin in namespace.pins().values()} == {'': 'n1', 'h': 'n3'}
