"""Each recipe of ``examples/recipes`` with real workers, which together do the work once and leave in good order."""

from __future__ import annotations

import configparser
import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.job.waiting import wait_until
from tests.support.servers import free_port
from tests.support.timings import DEADLINE_SEC, PATIENT

from jobsync import CoordinationConfig, Job, plugins
from jobsync.backend import Backend, BackendOptions, NodeState, Settings

HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / 'examples' / 'recipes'
PAGE = (HERE.parents[1] / 'docs' / 'guide' / 'recipes.md').read_text(encoding='utf-8')


class Cluster:
    """The processes of a recipe, in a folder of their own with an SQLite file."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        shutil.copytree(RECIPES, folder, dirs_exist_ok=True)
        for name in ('cluster.py', 'work.py', 'celery_settings.py'):
            shutil.copy(HERE / name, folder)
        (folder / 'broker').mkdir()
        self.folder, self._log, self._output = folder, folder / 'work.log', folder / 'output.log'
        self.url = f'sqlite:///{folder / "jobs.db"}'
        self._environ = {
            **os.environ,
            'JOBSYNC_BACKEND': self.url,
            'WORK_LOG': str(self._log),
            'BROKER_FOLDER': str(folder / 'broker'),
            'CELERY_CONFIG_MODULE': 'celery_settings',
            'PYTHONPATH': os.pathsep.join(filter(None, (str(folder), os.environ.get('PYTHONPATH')))),
            'PYTHONWARNINGS': 'ignore',
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.backend: Backend = plugins.connect(self.url, BackendOptions(**PATIENT))
        self.backend.open(Settings(60, CoordinationConfig().hash_function), create=True)

    def start(self, command: str, **variables: str) -> None:
        """Start a process, or one that starts more: a process group."""
        words = [sys.executable if word in ('python', 'python3') else word for word in shlex.split(command)]
        if words[0] not in (sys.executable, '/usr/bin/env'):
            words[:0] = [sys.executable, '-m']
        with self._output.open('ab') as output:
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**self._environ, **variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)

    @property
    def done(self) -> list[str]:
        """What was done, in order."""
        return [line.split(maxsplit=1)[1] for line in self.lines]

    @property
    def lines(self) -> list[str]:
        """The whole lines of the log."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def output(self) -> str:
        """What the processes have written."""
        return self._output.read_text()

    @property
    def members(self) -> list[str]:
        """The nodes that are registered."""
        return [node.name for node in self.backend.snapshot().nodes if node.state is NodeState.JOINED]

    def wait_for(self, nodes: int, works: int) -> None:
        """Wait until so many nodes are in, and so much more is done then."""

        def are_up() -> bool:
            ended = [process.returncode for process in self.processes if process.poll() is not None]
            assert not ended, self._output.read_text()
            return len(self.members) == nodes

        wait_until(are_up, f'{nodes} nodes')
        before = len(self.lines)
        wait_until(lambda: len(self.lines) >= before + works, f'{works} more works')

    def stop(self) -> list[int]:
        """Send SIGTERM, and return the statuses."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        return [process.wait(DEADLINE_SEC) for process in self.processes]

    def end(self) -> None:
        """End what is left of the processes that were started here."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.backend.close()

    def check_ticks(self, statuses: frozenset[int] = frozenset({0})) -> None:
        """All workers end well, having left the cluster, and each tick was done once, one after the other."""
        assert set(self.stop()) <= statuses, self._output.read_text()
        assert self.members == [], self._output.read_text()
        assert len(self.done) >= 2
        assert max(Counter(self.done).values()) == 1
        assert all(item.startswith('every:refresh@') for item in self.done)


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of no worker yet, to which two belong, and with ``--full`` four."""
    cluster = Cluster(tmp_path, 4 if request.config.getoption('full') else 2)
    yield cluster
    cluster.end()


def status_of(url: str) -> int:
    """Return the status of an answer, 0 for none."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - a URL of the test
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def check_readiness(port: int) -> None:
    """The probe finds a worker ready."""
    wait_until(lambda: status_of(f'http://127.0.0.1:{port}/ready') == 200, 'it is ready')


def test_fastapi(cluster: Cluster) -> None:
    """One process of uvicorn's workers runs each tick, and the probe finds them ready."""
    port = free_port()
    cluster.start(f'uvicorn fastapi_app:app --workers {cluster.size} --port {port}')
    cluster.wait_for(nodes=cluster.size, works=2)
    check_readiness(port)
    cluster.check_ticks(frozenset({0, -signal.SIGTERM}))


ENTERED_TWICE = """
import asyncio

from fastapi_app import app


async def main():
    for _ in range(2):
        async with app.router.lifespan_context(app):
            pass


asyncio.run(main())
"""


def test_fastapi_starts_again_in_one_process(cluster: Cluster) -> None:
    """The application may be started more than once in a process, as by each test that has a client of it."""
    cluster.start(shlex.join(['python', '-c', ENTERED_TWICE]))
    assert cluster.processes[0].wait(DEADLINE_SEC) == 0, cluster.output


@pytest.mark.parametrize('preload', ['', pytest.param('--preload', marks=pytest.mark.full)])
def test_flask_and_gunicorn(cluster: Cluster, preload: str) -> None:
    """Each process enters after the fork, whether or not the program is loaded before it."""
    port = free_port()
    cluster.start(f'gunicorn --config gunicorn_conf.py --workers {cluster.size} --bind 127.0.0.1:{port} {preload} flask_app:app')
    cluster.wait_for(nodes=cluster.size, works=2)
    check_readiness(port)
    cluster.check_ticks()


def test_gunicorn_serves_while_other_nodes_are_busy(cluster: Cluster) -> None:
    """A worker that waits for its share is not killed by gunicorn's timeout: it enters without it in time."""
    config = CoordinationConfig(backend=cluster.url, minimum_nodes=1, total_tokens=60, handover_timeout_sec=100)
    port = free_port()
    with Job('busy', coordination_config=config) as job:
        assert all(job.add_task(number) for number in range(600))
        cluster.start(f'gunicorn --config gunicorn_conf.py --workers 1 --timeout 20 --bind 127.0.0.1:{port} flask_app:app')
        wait_until(lambda: status_of(f'http://127.0.0.1:{port}/ready') == 200, 'it serves', 60)
        assert 'WORKER TIMEOUT' not in cluster.output
        assert cluster.stop() == [0]


def test_django(cluster: Cluster) -> None:
    """Commands at once send each invoice once, and end; one more sends nothing."""
    for _ in range(cluster.size):
        cluster.start('python manage.py send_invoices')
    assert {process.wait(DEADLINE_SEC) for process in cluster.processes} == {0}
    cluster.start('python manage.py send_invoices')
    assert cluster.processes[-1].wait(DEADLINE_SEC) == 0
    assert sorted(cluster.done) == sorted(f'invoice-{number}' for number in range(20))


@pytest.mark.full
def test_celery_without_a_beat(cluster: Cluster) -> None:
    """One worker sends each periodic task, and any of them carries it out."""
    for number in range(cluster.size):
        cluster.start(f'celery -A celery_beat worker --pool solo --without-mingle --without-gossip -n {number}@host')
    cluster.wait_for(nodes=cluster.size, works=3)
    cluster.check_ticks()


@pytest.mark.full
def test_celery_prefork(cluster: Cluster) -> None:
    """Each process of the pool is a node of its own."""
    cluster.start(f'celery -A celery_prefork worker --concurrency {cluster.size} --without-mingle --without-gossip')
    cluster.wait_for(nodes=cluster.size, works=2)
    cluster.check_ticks()


@pytest.mark.full
def test_celery_does_not_go_on_without_its_job(cluster: Cluster) -> None:
    """Where the store cannot be used, a worker ends, and a process of the pool is replaced until it can."""
    nowhere = f'sqlite:///{cluster.folder / "missing" / "jobs.db"}'
    options = 'worker --without-mingle --without-gossip'
    cluster.start(f'celery -A celery_beat {options} --pool solo', JOBSYNC_BACKEND=nowhere)
    assert cluster.processes.pop().wait(DEADLINE_SEC) == 1
    assert 'could not enter' in cluster.output
    cluster.start(f'celery -A celery_prefork {options} --concurrency 1', JOBSYNC_BACKEND=nowhere)
    wait_until(lambda: cluster.output.count('could not enter') > 1, 'a process of the pool ends')
    (cluster.folder / 'missing').mkdir()
    wait_until(lambda: len(cluster.lines) > 0, 'another one works')
    assert cluster.stop() == [0]


def test_apscheduler(cluster: Cluster) -> None:
    """The scheduler runs on one of the processes, and on another one when that ends."""
    for _ in range(cluster.size):
        cluster.start('python apscheduler_app.py')
    cluster.wait_for(nodes=cluster.size, works=2)
    first = cluster.lines[-1].split()[0]
    (owner,) = [process for process in cluster.processes if str(process.pid) == first]
    owner.terminate()
    assert owner.wait(DEADLINE_SEC) == 0
    wait_until(lambda: cluster.lines[-1].split()[0] != first, 'another one goes on')
    assert set(cluster.stop()) == {0}
    turns = [pid for pid, _ in itertools.groupby(line.split()[0] for line in cluster.lines)]
    assert len(turns) == len(set(turns))  # no two at once
    assert cluster.members == []


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(RECIPES / 'worker@.service')
    return parser


def test_systemd(cluster: Cluster) -> None:
    """Instances of the unit's command run each tick once; its directives leave a worker time to stop."""
    service = unit()['Service']
    assert float(service['TimeoutStopSec']) > CoordinationConfig().shutdown_timeout_sec
    assert (service['Restart'], service['KillMode']) == ('always', 'mixed')
    assert 'Environment=NODE_NAME=%H-%i' in (RECIPES / 'worker@.service').read_text()
    for number in range(cluster.size):
        cluster.start(service['ExecStart'], NODE_NAME=f'host-{number}')
    cluster.wait_for(nodes=cluster.size, works=2)
    assert sorted(cluster.members) == [f'host-{number}' for number in range(cluster.size)]
    cluster.check_ticks()


@pytest.mark.skipif(shutil.which('systemd-analyze') is None, reason='systemd is not installed')
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Its own check finds nothing."""
    path = tmp_path / 'worker@1.service'
    path.write_text((RECIPES / 'worker@.service').read_text())
    done = subprocess.run(['systemd-analyze', 'verify', str(path)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if 'worker@' in line]
    assert complaints == []


def manifests(name: str) -> dict[str, Any]:
    """The documents of a file, by kind."""
    return {each['kind']: each for each in yaml.safe_load_all((RECIPES / name).read_text())}


@pytest.mark.parametrize(('name', 'kind'), [('statefulset.yaml', 'StatefulSet'), ('deployment.yaml', 'Deployment')])
def test_kubernetes_manifests(name: str, kind: str) -> None:
    """Names come from the pod, labels match, the program gets SIGTERM itself and time to leave, and no probe ends a node."""
    documents = manifests(name)
    spec = documents[kind]['spec']
    template, selector = spec['template'], spec['selector']['matchLabels']
    assert template['metadata']['labels'] == selector
    pod = template['spec']
    assert pod['terminationGracePeriodSeconds'] >= CoordinationConfig().shutdown_timeout_sec + 5
    (container,) = pod['containers']
    assert container['command'][0] == 'python'
    names = {each['name']: each['valueFrom'] for each in container['env']}
    assert names['NODE_NAME'] == {'fieldRef': {'fieldPath': 'metadata.name'}}
    assert 'secretKeyRef' in names['JOBSYNC_BACKEND']
    (port,) = [each['containerPort'] for each in container['ports']]
    assert str(port) in container['command']
    assert container['readinessProbe']['httpGet'] == {'path': '/ready', 'port': port}
    assert container['livenessProbe']['tcpSocket'] == container['startupProbe']['tcpSocket'] == {'port': port}
    startup = container['startupProbe']
    assert startup['periodSeconds'] * startup['failureThreshold'] > 180  # wait_on_enter, and token_distribution_timeout_sec
    if kind == 'StatefulSet':
        service = documents['Service']
        assert spec['serviceName'] == service['metadata']['name']
        assert (service['spec']['selector'], service['spec']['clusterIP']) == (selector, 'None')
    else:
        assert spec['strategy']['rollingUpdate'] == {'maxSurge': 1, 'maxUnavailable': 0}


@pytest.mark.full
def test_kubernetes_containers(cluster: Cluster) -> None:
    """Containers with the manifest's command and names are one cluster, and its probe finds each ready."""
    (container,) = manifests('statefulset.yaml')['StatefulSet']['spec']['template']['spec']['containers']
    ports = [free_port() for _ in range(cluster.size)]
    for number, port in enumerate(ports):
        command = [str(port) if word == '8000' else word.replace('0.0.0.0', '127.0.0.1') for word in container['command']]  # noqa: S104 - it is replaced by loopback
        cluster.start(shlex.join(command), NODE_NAME=f'worker-{number}')
    cluster.wait_for(nodes=cluster.size, works=2)
    assert sorted(cluster.members) == [f'worker-{number}' for number in range(cluster.size)]
    for port in ports:
        check_readiness(port)
    cluster.check_ticks(frozenset({0, -signal.SIGTERM}))


# --- the page -----------------------------------------------------------------------------------------------------------------


def recipes() -> list[Path]:
    """The files that the page shows."""
    shared = ('cluster.py', 'work.py', '__init__.py', 'manage.py')
    found = (path for path in RECIPES.rglob('*') if path.suffix in ('.py', '.service', '.yaml') and path.name not in shared)
    return sorted(found)


@pytest.mark.parametrize('path', recipes(), ids=lambda path: path.name)
def test_the_page_shows_each_recipe(path: Path) -> None:
    """To the letter, and without a line of its own."""
    assert f'```{{literalinclude}} ../../examples/recipes/{path.relative_to(RECIPES)}\n' in PAGE


@pytest.mark.parametrize('path', [path for path in recipes() if path.suffix == '.py'], ids=lambda path: path.name)
def test_a_recipe_is_short(path: Path) -> None:
    """At most ten lines of a user's, imports and blank lines not counted."""
    text = re.sub(r'""".*?"""', '', path.read_text(), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(('import ', 'from ', '#'))]
    assert len(lines) <= 10, lines
