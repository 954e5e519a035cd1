"""Examples of the chapter "Health Monitoring", and of what the best practices say of health."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.seed.pages import example
from tests.seed.running import namespace
from tests.seed.scripts import Script, get
from tests.support.servers import free_port
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import Job

pytestmark = pytest.mark.any_store  # the examples are about Job

SERVE = """
port = int(sys.argv[1])
Thread(target=lambda: app.run(host='127.0.0.1', port=port), daemon=True).start()
sys.stdin.readline()
main()
sys.stdin.readline()
"""


@example('Load Balancer Health Check')
def test_load_balancer(store: Store, tmp_path: Path, code: str) -> None:
    """Over HTTP: 503 before the job has entered, 200 with its tokens while it works, 503 when it has left; alive all the time."""
    early, own = free_port(), free_port()
    before = 'import sys\nfrom threading import Thread\ndef process_tasks(job):\n    sys.stdin.readline()\n'
    code = code.replace("host='0.0.0.0', port=8080", f"host='127.0.0.1', port={own}")
    with Script(tmp_path, store, before + code + SERVE, str(early)) as script:
        wait_until(lambda: get(early, '/health/live') == (200, {'status': 'alive'}), 'the server answers')
        assert get(early, '/health/ready') == (503, {'status': 'not_ready'})
        script.say('go')
        wait_until(lambda: get(own, '/health/ready')[0] == 200, 'ready')
        assert get(own, '/health/ready') == (200, {'status': 'ready', 'node': 'worker-01', 'token_count': TOKENS})
        script.say('leave')
        wait_until(lambda: get(own, '/health/ready') == (503, {'status': 'not_ready'}), 'not ready')
        assert get(own, '/health/live')[0] == 200
        script.say('end')
        assert script.wait() == 0, script.errors


@example('Manual Health Check')
def test_manual_check(store: Store, config: Any, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every value is what it says, within the block and after it."""
    names = namespace(config)
    names.run(code)
    caplog.set_level('INFO', 'guide')
    names.process_with_health_logging()
    assert [record.getMessage().partition(':')[0] for record in caplog.records if record.name == 'guide'] == [
        'Node health',
        'Final health',
    ]
    with store.job('a') as a, store.job('b') as b:
        wait_until(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2, 'half')
        wait_until(lambda: a.token_version == b.token_version, 'both have read the last version')
        found = names.check_node_health(a)
        age = dt.datetime.now(dt.UTC) - found.pop('last_heartbeat')
        assert dt.timedelta(0) <= age < dt.timedelta(seconds=30)
        assert found == {
            'node_name': 'a',
            'is_healthy': True,
            'is_leader': True,
            'token_count': TOKENS // 2,
            'token_version': a.token_version,
            'active_nodes': 2,
            'coordination_enabled': True,
        }
        assert not names.check_node_health(b)['is_leader']


@example('Implement Health Checks')
def test_health_loop(store: Store, config: Any, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """The loop goes on while the node is healthy, and ends when it is no longer."""
    rounds: list[Job] = []
    served: list[Job] = []

    def work(job: Job) -> None:
        rounds.append(job)
        assert job.am_i_healthy()
        if len(rounds) == 3:
            job.__exit__(None, None, None)

    names = namespace(config, process_tasks=work, start_health_server=served.append)
    names.run(code.replace('Job(...)', "Job('worker-01', 'production', config)"))
    names.main()
    assert len(rounds) == 3
    assert served == rounds[:1]
    assert [record.getMessage() for record in caplog.records if record.name == 'guide'] == ['Node unhealthy, exiting']


@pytest.mark.parametrize('store', [pytest.param('postgresql', marks=pytest.mark.postgres)], indirect=True)
@example('Monitor Rebalance Frequency')
def test_rebalance_frequency(store: Store, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """More than five in the last hour are warned of; older ones do not count. Starting is one."""
    names = namespace(None)
    names.run(code)
    insert = """INSERT INTO sync_rebalance
        (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms)
        VALUES (%s, 'x', 'x', 1, 1, 1, 1)"""

    def warned() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == 'guide']

    with store.job('a') as a:
        for minutes in (61, 59, 59, 59, 59):
            db.execute(a._cn, insert, dt.datetime.now() - dt.timedelta(minutes=minutes))
        names.check_rebalance_frequency(a._cn)
        assert warned() == []
        db.execute(a._cn, insert, dt.datetime.now())
        names.check_rebalance_frequency(a._cn)
        assert warned() == ['High rebalance frequency: 6 in last hour']
