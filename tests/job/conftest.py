"""The stores that every test of ``Job`` runs on; helpers are imported as ``tests.job.…``, as mypy names them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.job.stores import SQL_STORES, STORES, Store


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    store = Store(STORES[request.param](tmp_path))
    yield store
    store.close()


@pytest.fixture(params=[name for name in STORES if name != 'memory'])
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind that other processes reach."""
    store = Store(STORES[request.param](tmp_path))
    yield store
    store.close()


@pytest.fixture(params=SQL_STORES)
def sql_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind that speaks SQL."""
    store = Store(STORES[request.param](tmp_path))
    yield store
    store.close()
