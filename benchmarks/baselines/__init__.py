"""Parties that are measured in turns with jobsync. Each module offers libraries and floors for the figures of some scenarios."""

from __future__ import annotations

from benchmarks.baselines.registry import BaselineRegistry

__all__ = ['BaselineRegistry']
