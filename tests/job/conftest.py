"""The stores that every test of ``Job`` runs on; helpers are imported as ``tests.job.…``, as mypy names them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.job.stores import STORES, Store, kinds


@pytest.fixture(params=kinds())
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind."""
    store = Store(STORES[request.param](request))
    yield store
    store.close()


@pytest.fixture(params=kinds(name for name in STORES if name != 'memory'))
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind that other processes reach."""
    store = Store(STORES[request.param](request))
    yield store
    store.close()
