"""Processes in which gevent or eventlet has put something in the place of threads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.job.stores import Store

WORK = """
import logging, sys, warnings
warnings.simplefilter('ignore')
logging.disable(logging.WARNING)  # on a busy machine entering takes long enough to be logged
{patch}
from jobsync import CoordinationConfig, Job, UnsupportedOperation
try:
    config = CoordinationConfig(backend=sys.argv[1], minimum_nodes=1, enabled={enabled})
    with Job('a', coordination_config=config) as job:
        print(job.can_claim_task(1) and job.add_task(1))
        job.write_audit()
except UnsupportedOperation as error:
    print(error)
"""
GEVENT = 'from gevent import monkey; monkey.patch_all({})'
EVENTLET = 'import eventlet; eventlet.monkey_patch({})'


def outcome(patch: str, url: str = 'memory://greenlets', enabled: bool = True) -> str:
    """What a process says that is patched, and then runs a job."""
    done = subprocess.run(
        [sys.executable, '-c', WORK.format(patch=patch, enabled=enabled), url],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ('patch', 'by'),
    [
        (GEVENT.format(''), 'gevent'),
        (GEVENT.format('thread=False'), 'gevent'),
        (GEVENT.format('thread=False, queue=False'), 'gevent'),
        (GEVENT.format('thread=False, queue=False, socket=False'), 'gevent'),
        (EVENTLET.format(''), 'eventlet'),
        (EVENTLET.format('thread=False'), 'eventlet'),
    ],
)
def test_refused(patch: str, by: str) -> None:
    """Where threads, or what they wait with, are for greenlets, entering is refused, with the reason and what to do."""
    said = outcome(patch)
    assert said.startswith(f"node 'a': {by} has replaced the threads of this process by greenlets")
    assert 'monkey.patch_all(thread=False, queue=False, socket=False, ssl=False)' in said


@pytest.mark.any_store
@pytest.mark.parametrize(
    'patch',
    [
        GEVENT.format('thread=False, queue=False, socket=False, ssl=False'),
        EVENTLET.format('thread=False, select=False'),
        'import gevent, eventlet',
    ],
)
def test_allowed(shared_store: Store, patch: str) -> None:
    """Where threads are threads, a job does its work."""
    assert outcome(patch, shared_store.url) == 'True'


def test_without_coordination() -> None:
    """There are no heartbeats then, and nothing to refuse."""
    assert outcome(GEVENT.format(''), enabled=False) == 'True'
