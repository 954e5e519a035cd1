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
    """How many examples: more within the process, and twenty times as many with ``--full``."""
    params = request.node.callspec.params if hasattr(request.node, 'callspec') else {}
    few = params.get('place', 'memory') not in ('memory', 'sqlite')
    return (10 if few else 40) * (20 if request.config.getoption('full') else 1)
