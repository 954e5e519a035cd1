"""The wrong clock of the conformance suite, which stands in for that of another machine."""

from __future__ import annotations

import copyreg
import datetime as dt
import pickle
import time

import pytest

from jobsync.testing.conformance.clocks import shift_wall_clock


def test_times_can_be_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend may keep its records as pickles: a process with a wrong clock writes and reads them, as does one without."""
    real = dt.datetime
    for module, name in ((dt, 'datetime'), (time, 'time'), (time, 'time_ns')):
        monkeypatch.setattr(module, name, getattr(module, name))  # as it is now, to be put back
    monkeypatch.delitem(copyreg.dispatch_table, real, raising=False)
    moment = real(2026, 3, 2, 12, 30, 15, 999, tzinfo=dt.UTC)
    before = pickle.dumps(moment)
    shift_wall_clock(dt.timedelta(days=30))
    assert pickle.loads(before) == moment
    assert pickle.dumps(moment) == before
