"""Which values an argument of each name gets. A parameter or method that is not here fails ``test_bad_calls.py``."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st
from tests.bad_input.values import mostly, texts

__all__ = ['LEFT_OUT', 'arguments', 'calls_of', 'methods_of']

names = st.sampled_from(['a', 'b', 'w%', "o'hara", 'naïve', '%', '_'])
tasks = st.one_of(st.integers(), texts, st.tuples(st.integers(), texts))
patterns = st.one_of(st.sampled_from(['a', '%', 'w_%', 'zz%']), texts, st.lists(texts, min_size=1, max_size=3))
task_lists = st.lists(tasks, max_size=4)
dates = st.one_of(st.none(), st.dates(), st.datetimes())
counts = st.one_of(st.none(), st.integers(-2, 5))
ages = st.one_of(st.floats(), st.timedeltas(), st.integers())
functions = st.sampled_from([lambda: None, lambda tick: tick])  # type: ignore[unused-ignore]

BY_NAME: Mapping[str, st.SearchStrategy[Any]] = {
    'task': tasks,
    'task_id': tasks,
    'tasks': st.one_of(task_lists, tasks),
    'ids': task_lists,
    'token': st.integers(),
    'node': names,
    'incarnation': st.one_of(st.none(), texts),
    'remove': st.lists(names, max_size=2),
    'add': st.one_of(st.lists(texts, max_size=2), st.dictionaries(texts, st.floats(), max_size=2)),
    'node_pattern': patterns,
    'pattern': patterns,
    'locks': st.lists(st.tuples(tasks, patterns), max_size=3),
    'reason': texts,
    'creator': st.one_of(names, texts),
    'actor': st.one_of(names, texts),
    'group': st.one_of(names, texts),
    'cost': st.one_of(st.floats(0.1, 5), st.dictionaries(tasks, st.floats(), max_size=2)),
    'column': st.one_of(st.sampled_from(['id', 'x.id']), texts),
    'token_column': st.one_of(st.none(), texts),
    'name': st.one_of(names, texts),
    'schedule': st.one_of(
        st.floats(0.05, 5e7), st.sampled_from(['0 3 * * *', '* * * * * *', '61 * * * *', '@daily', '* * 31 2 *'])
    ),
    'misfire': st.sampled_from(['skip', 'run']),
    'tz': st.sampled_from(['UTC', 'Europe/Berlin', 'Europe', '../UTC', dt.UTC]),
    'date': dates,
    'older_than': ages,
    'before': st.datetimes(timezones=st.just(dt.UTC)),
    'kinds': st.lists(st.sampled_from(['claim', 'audit', 'rebalance', 'x']), max_size=3),
    'limit': counts,
    'attempts': counts,
    'batch': counts,
    'once': st.booleans(),
    'progress': st.booleans(),
    'force': st.booleans(),
    'weight': st.floats(0, 10),
    'expires_in_days': st.floats(0.001, 36_500),
}
"""Values of the right kind, which half of the draws have."""

LEFT_OUT: Mapping[str, str] = {
    'run_scheduled': 'waits until the node is to leave; takes nothing',
    'serve': 'test_serve draws what it takes',
    'close': 'ends the object; takes nothing',
}
"""Public methods that are not called at random, with the reason."""


def methods_of(kind: type) -> list[str]:
    """Return the names of the public methods of a class."""
    return [name for name in dir(kind) if not name.startswith('_') and callable(getattr(kind, name)) and name not in LEFT_OUT]


def arguments(method: Callable[..., Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return arguments by name: all that a method needs, and some that it does not."""
    parameters = [each for each in inspect.signature(method).parameters.values() if each.name != 'self']
    needed = {each.name: mostly(BY_NAME[each.name]) for each in parameters if each.default is each.empty}
    optional = {each.name: mostly(BY_NAME[each.name]) for each in parameters if each.default is not each.empty}
    return st.fixed_dictionaries(needed, optional=optional)


def calls_of(kind: type) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Return calls: the name of a method, and its arguments."""
    each = [st.tuples(st.just(name), arguments(getattr(kind, name))) for name in methods_of(kind)]
    return st.one_of(each)
