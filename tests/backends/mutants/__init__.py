"""Memory backends with one guarantee removed each: the suite must catch every one of them."""

from __future__ import annotations

from tests.backends.mutants import attempts, guards, leading, nodes, records, rest, external_changes, contract, spoilt, files  # isort: skip
from tests.backends.mutants.base import MUTANTS

__all__ = [
    'MUTANTS', 'attempts', 'contract', 'external_changes', 'files', 'guards', 'leading', 'nodes', 'records', 'rest', 'spoilt',
]  # fmt: skip
