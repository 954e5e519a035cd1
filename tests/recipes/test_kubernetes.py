"""The program and the manifest of the page on Kubernetes: it runs as the manifest says, and its probes are answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.job.waiting import wait_until
from tests.support.servers.program import free_port
from tests.support.timings import DEADLINE_SEC, PATIENT

from jobsync import CoordinationConfig, plugins
from jobsync.backend import Audit, BackendOptions, HistoryKind

pytest.importorskip('starlette')

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / 'examples' / 'kubernetes'
DOCUMENTS: dict[str, Any] = {each['kind']: each for each in yaml.safe_load_all((EXAMPLE / 'worker.yaml').read_text())}
SPEC = DOCUMENTS['StatefulSet']['spec']
(CONTAINER,) = SPEC['template']['spec']['containers']


def status_of(port: int, probe: str) -> int:
    """The status that a probe of the manifest gets; 0 for no answer."""
    request = CONTAINER[probe]['httpGet']
    assert request['port'] == CONTAINER['ports'][0]['name']
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{port}{request["path"]}', timeout=DEADLINE_SEC) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_manifest() -> None:
    """Labels match, names come from the pod, secrets from a secret, and there is more time to end than the program takes."""
    labels = SPEC['template']['metadata']['labels']
    assert labels == SPEC['selector']['matchLabels'] == DOCUMENTS['Service']['spec']['selector']
    assert labels == DOCUMENTS['PodDisruptionBudget']['spec']['selector']['matchLabels']
    assert SPEC['serviceName'] == DOCUMENTS['Service']['metadata']['name']
    assert SPEC['podManagementPolicy'] == 'Parallel'
    assert SPEC['template']['spec']['terminationGracePeriodSeconds'] >= CoordinationConfig().shutdown_timeout_sec + 5
    variables = {each['name']: each.get('value', each.get('valueFrom')) for each in CONTAINER['env']}
    assert variables['NODE_NAME'] == {'fieldRef': {'fieldPath': 'metadata.name'}}
    assert 'secretKeyRef' in variables['JOBSYNC_BACKEND']
    assert variables['REPLICAS'] == str(SPEC['replicas'])
    assert 'startupProbe' not in CONTAINER


def test_a_pod(tmp_path: Path) -> None:
    """It is alive and not ready while it waits for a second pod, ready with it, and SIGTERM ends it with status 0."""
    url = f'sqlite:///{tmp_path / "jobs.db"}'
    ports = [free_port(), free_port()]
    command = [sys.executable if word == 'python' else str(EXAMPLE / word) for word in CONTAINER['command']]

    def pod(number: int) -> subprocess.Popen[bytes]:
        variables = {'NODE_NAME': f'worker-{number}', 'JOBSYNC_BACKEND': url, 'REPLICAS': '2', 'PORT': str(ports[number])}
        today = {'TZ': ('UTC+12', 'UTC-14')[number]}  # never the same day, as of pods that start a day apart
        return subprocess.Popen(command, env={**os.environ, **variables, **today})

    pods = [pod(0)]
    try:
        wait_until(lambda: status_of(ports[0], 'livenessProbe') == 200, 'it answers')
        assert status_of(ports[0], 'readinessProbe') == 503
        pods.append(pod(1))
        for port in ports:
            wait_until(lambda port=port: status_of(port, 'readinessProbe') == 200, 'it is ready')  # type: ignore[misc]
        backend = plugins.connect(url, BackendOptions(**PATIENT))
        wait_until(lambda: len(backend.history(HistoryKind.AUDIT)) == 20, 'all is done, once')
        assert len({record.date for record in backend.history(HistoryKind.AUDIT) if isinstance(record, Audit)}) == 1
        for process in pods:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_SEC) == 0
        backend.close()
    finally:
        for process in pods:
            process.kill()
            process.wait()


def test_the_page_shows_both_files() -> None:
    """To the letter."""
    page = (ROOT / 'docs' / 'operate' / 'kubernetes.md').read_text(encoding='utf-8')
    assert [f'```{{literalinclude}} ../../examples/kubernetes/{name}\n' in page for name in ('worker.py', 'worker.yaml')] == [
        True
    ] * 2
