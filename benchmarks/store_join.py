"""Ours in ``store.py``: a leader at work on a store."""

from __future__ import annotations

from jobsync.bench.leading import Leader

__all__ = ['Leader']
