"""Who is measured beside us, and at what: the rivals' runs, by scenario, figure and case."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from jobsync.bench.bench import Bench, Run
from jobsync.bench.results import Results

__all__ = ['Rivals']


@attrs.define
class Rivals:
    """Starts a rival when something of ours is measured that it can do as well."""

    _results: Results

    def runs(self, bench: Bench, figure: str, case: str) -> Mapping[str, Run]:  # noqa: ARG002
        """See ``jobsync.bench.bench.Beside``."""
        return {}
