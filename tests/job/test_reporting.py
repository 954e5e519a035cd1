"""What becomes of notes."""

from __future__ import annotations

import logging
from queue import Empty, SimpleQueue

import pytest

from jobsync.core.events import Note
from jobsync.runtime.reporting import Reporter


def test_a_note_that_comes_as_a_round_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Another thread notes, and finds one at it, when that one has just found nothing left: it is told all the same."""
    caplog.set_level(logging.INFO, logger='jobsync')
    reporter = Reporter('a')

    class Late(SimpleQueue[Note]):
        comes_late = True

        def get_nowait(self) -> Note:
            try:
                return super().get_nowait()
            except Empty:
                if self.comes_late:
                    self.comes_late = False
                    reporter.note([Note('info', 'left')], '')
                    reporter.tell()
                raise

    reporter._notes = Late()
    reporter.note([Note('info', 'registered')], '')
    reporter.tell()
    assert [record.getMessage() for record in caplog.records] == ['registered', 'left']
