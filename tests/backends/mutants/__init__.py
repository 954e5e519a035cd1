"""Memory backends with one guarantee removed each: the suite must catch every one of them."""

from __future__ import annotations

# The table of mutants has them in this order.
from tests.backends.mutants import (  # isort: skip
    attempts, guards, leading, nodes, records, rest, external_changes, contract, spoilt, files, purging, habits, remembered,
    limits, overlapping, away, half, sharing, optimistic,
)  # fmt: skip
from tests.backends.mutants.base import MUTANTS

__all__ = [
    'MUTANTS', 'attempts', 'away', 'contract', 'external_changes', 'files', 'guards', 'habits', 'half', 'leading', 'limits',
    'nodes', 'optimistic', 'overlapping', 'purging', 'records', 'remembered', 'rest', 'sharing', 'spoilt',
]  # fmt: skip
