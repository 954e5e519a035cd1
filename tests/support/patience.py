"""How long tests wait for what comes at once on a quiet machine: a limit against hanging, never a measure of speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ['DEADLINE_SEC', 'PATIENT']

DEADLINE_SEC = 120.0
"""For a condition."""
PATIENT: Mapping[str, Any] = {'op_timeout_sec': 20.0, 'bulk_timeout_sec': 120.0}
"""Options of a backend whose calls must not fail on a machine that is starved."""
