"""Timings that tests share. A worker process of a test imports them, so this module imports little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ['DEADLINE_SEC', 'FAST', 'PATIENT', 'TOKENS']

DEADLINE_SEC = 120.0
"""For a condition that holds at once on a quiet machine: a limit against hanging, never a measure of speed."""
PATIENT: Mapping[str, Any] = {'op_timeout_sec': 20.0, 'bulk_timeout_sec': 120.0}
"""Options of a backend whose calls must not fail on a machine that is starved."""
TOKENS = 60
FAST: dict[str, Any] = {
    'total_tokens': TOKENS,
    'heartbeat_interval_sec': 0.25,
    'heartbeat_timeout_sec': 5,
    'rebalance_delay_sec': 0.1,
    'rebalance_check_interval_sec': 1,
    'minimum_nodes': 1,
}
"""The configuration of a cluster in a test: a small pool and short intervals."""
