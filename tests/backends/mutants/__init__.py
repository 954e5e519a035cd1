"""Memory backends with one guarantee removed each: the suite must catch every one of them."""

from __future__ import annotations

from tests.backends.mutants import leading, nodes, rest
from tests.backends.mutants.base import MUTANTS

__all__ = ['MUTANTS', 'leading', 'nodes', 'rest']
