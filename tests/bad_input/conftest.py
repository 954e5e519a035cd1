"""The stores that bad input is given to, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.job.stores import STORES, Store, kinds


@pytest.fixture(params=kinds())
def place(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind."""
    store = Store(STORES[request.param](request))
    yield store
    store.close()


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many examples: more within the process, and many times as many with ``--full``."""
    params = request.node.callspec.params if hasattr(request.node, 'callspec') else {}
    few = params.get('place', 'memory') not in ('memory', 'sqlite')
    if request.config.getoption('full'):
        return 200 if few else 800
    return 6 if few else 24
