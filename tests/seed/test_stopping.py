"""Examples of the best practices: shutting down, and how long to wait."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.pages import example
from tests.seed.running import namespace
from tests.seed.scripts import Script
from tests.support.timings import TOKENS

from jobsync import Job

pytestmark = pytest.mark.any_store  # the examples are about Job

PATIENT = {'heartbeat_interval_sec': 1, 'heartbeat_timeout_sec': 600}
"""With these no token changes hands because somebody is taken for dead."""
WORK = """
def process_tasks(job):
    while True:
        for task in range(100):
            if job.can_claim_task(task) and job.add_task(task):
                job.write_audit()
"""


@example('Always Use Graceful Shutdown')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_graceful_shutdown(store: Store, tmp_path: Path, code: str, number: signal.Signals) -> None:
    """The signal is logged, the process ends with status 0, and its tokens are another worker's at once."""
    code = code.replace('Job(...)', "Job('worker-01', 'production', config)")
    with store.job('other', config=PATIENT) as other, Script(tmp_path, store, WORK + code, **PATIENT) as script:
        wait_until(lambda: len(other.my_tokens) == TOKENS // 2 and store.audits, 'it is at work')
        script.process.send_signal(number)
        assert script.wait() == 0, script.errors
        assert f'Received signal {int(number)}, shutting down gracefully' in script.errors
        wait_until(lambda: len(other.my_tokens) == TOKENS, 'the tokens are back')


@example('Use Appropriate Wait Times')
def test_wait_times(store: Store, config: Any, code: str) -> None:
    """They are limits: a cluster that is complete earlier is entered earlier, whatever they are."""
    made: list[Job] = []

    class Noted(Job):
        """Notes which were made, and enters as any."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    names = namespace(config, Job=Noted)
    names.run(code.replace('Job(...,', "Job('worker-01', 'production', config,"))
    assert [job._wait_on_enter for job in made] == [120, 60, 180]
    assert store.node_names == ['worker-01']
