"""What runs by default and what ``--full`` adds; docs/contribute/testing.md gives the reasons."""

from __future__ import annotations

import pytest

SAMPLE_STORES = {'memory', 'postgresql'}
"""The stores of a test marked ``any_store``: one within the process, one across the network."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``."""
    parser.addoption('--full', action='store_true', help='run every test on every store, and on every server installed here')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what only ``--full`` runs."""
    if config.getoption('full'):
        return
    deselected = [item for item in items if is_for_full(item)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not is_for_full(item)]


def is_for_full(item: pytest.Item) -> bool:
    """Return whether only ``--full`` runs the test."""
    if item.get_closest_marker('full'):
        return True
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, 'callspec') else {}
    store = parameters.get('store', parameters.get('shared_store', 'memory'))
    return item.get_closest_marker('any_store') is not None and store not in SAMPLE_STORES
