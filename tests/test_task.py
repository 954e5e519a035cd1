"""Tasks."""

from __future__ import annotations

import copy
import pickle

import pytest

from jobsync._core.hashing import task_key
from jobsync.errors import ConfigError
from jobsync.task import Task


def test_keeps_what_it_was_given() -> None:
    """The id comes back as it went in; the key is its text; the name is a remark."""
    task = Task(12345, name='nightly')
    assert (task.id, task.key, task.name) == (12345, '12345', 'nightly')
    assert Task('a').name is None


def test_equal_by_key() -> None:
    """Ids with one text are one task, whatever their type and name: they hash alike and stand for each other in a set."""
    assert Task(7) == Task('7', name='seven')
    assert len({Task(7), Task('7')}) == 1
    assert Task(7) != Task(8)


def test_differs_from_its_id() -> None:
    """A task is not its bare id."""
    assert Task(7) != 7
    assert Task('7') != '7'


def test_a_task_serves_as_an_id() -> None:
    """The text of a task is its key, so a task of a task is the same task."""
    assert str(Task('a')) == 'a'
    assert task_key(Task(('a', 1))) == "('a', 1)"
    assert Task(Task(7)) == Task(7)


def test_repr() -> None:
    """The repr makes an equal task again."""
    for task in (Task(7), Task('7'), Task('x', name='y')):
        assert eval(repr(task)) == task  # noqa: S307 - that is what a repr is for
    assert repr(Task('x', name='y')) == "Task('x', name='y')"


def test_holds_nothing_else() -> None:
    """A task has no room for other attributes: a misspelt one is an error."""
    with pytest.raises(AttributeError):
        Task(7).nmae = 'x'  # type: ignore[attr-defined]


def test_copies() -> None:
    """A task survives copying and pickling, as for a pool of processes."""
    task = Task(7, name='x')
    for twin in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert (twin.id, twin.key, twin.name) == (7, '7', 'x')


@pytest.mark.parametrize('task_id', [[1, 2], {'a': 1}, {3}, ([],)])
def test_unhashable(task_id: object) -> None:
    """An id that cannot be hashed is refused by its value."""
    with pytest.raises(ConfigError, match='must be hashable') as caught:
        Task(task_id)
    assert repr(task_id) in str(caught.value)
