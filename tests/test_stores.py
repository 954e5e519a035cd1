"""The table of stores that tests and benchmarks go by."""

from __future__ import annotations

import pytest
from tests.job.stores import MARKS
from tests.support.stores import KINDS, Kind

from jobsync import plugins
from jobsync.backend import BackendOptions


@pytest.mark.parametrize('kind', [pytest.param(kind, marks=MARKS.get(name, ()), id=name) for name, kind in KINDS.items()])
def test_a_fresh_store_is_of_its_kind(kind: Kind) -> None:
    """Its name is the URL's scheme, and its reach what its backend declares."""
    with kind.fresh() as url:
        assert url.startswith(f'{kind.name}://')
        backend = plugins.connect(url, BackendOptions())
        assert (backend.info.name, backend.info.reach) == (kind.name, kind.reach)
        backend.close()
