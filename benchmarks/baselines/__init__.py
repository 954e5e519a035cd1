"""Who is measured beside us, and at what. Each module here offers rivals and limits for some scenarios' figures."""

from __future__ import annotations

from benchmarks.baselines.registry import BaselineRegistry

__all__ = ['BaselineRegistry']
