"""Real clusters for the usage guide's code."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.job.stores import SQL, STORES, Store, kinds
from tests.seed.pages import CHEAT_SHEET, GUIDE, blocks
from tests.support.timings import FAST

import jobsync.database as db

SOURCES = {
    'guide': ('postgresql', GUIDE),
    'sheet-postgresql': ('postgresql', CHEAT_SHEET),
    'sheet-sqlite': ('sqlite', CHEAT_SHEET),
}
"""Where SQL comes from, and which database it is for."""


def open_store(request: pytest.FixtureRequest, kind: str) -> Iterator[Store]:
    """An empty store, closed after the test."""
    store = Store(STORES[kind](request))
    yield store
    store.close()


@pytest.fixture(params=kinds(SQL))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind that has SQL."""
    yield from open_store(request, request.param)


@pytest.fixture
def config(store: Store) -> Any:
    """The user's ``config.py``: where the store is, fast timings, and that one worker is a cluster."""
    return SimpleNamespace(sync=SimpleNamespace(backend=store.url, coordination=dict(FAST)))


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.postgres if kind == 'postgresql' else ())
                        for name, (kind, _) in SOURCES.items()])  # fmt: skip
def source(request: pytest.FixtureRequest) -> str:
    """Each page that has SQL, with each database it is for."""
    name: str = request.param
    return name


@pytest.fixture
def queried(request: pytest.FixtureRequest, source: str) -> Iterator[Store]:
    """An empty store for the statements of a page."""
    yield from open_store(request, SOURCES[source][0])


@pytest.fixture
def sql(request: pytest.FixtureRequest, source: str) -> str:
    """The statement of a title, to the letter."""
    kind, page = SOURCES[source]
    wanted = '' if page == GUIDE else {'postgresql': 'PostgreSQL', 'sqlite': 'SQLite'}[kind]
    (found,) = [
        block.text for block in blocks(page, 'sql') if block.title == request.param and (not wanted or block.label == wanted)
    ]
    return found


@pytest.fixture
def cn(queried: Store) -> Iterator[db.Connection]:
    """An operator's connection."""
    assert queried.handle
    with db.connect(queried.url) as connection:
        yield connection
