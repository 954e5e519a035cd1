"""The page in a real browser, while a worker joins, is killed and leaves under it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobsync import Cluster
from jobsync.web import Server, cluster_app

pytestmark = pytest.mark.full

WORKER = """
import sys, time
from jobsync import CoordinationConfig, Job
timings = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': 4}
config = CoordinationConfig(backend=sys.argv[1], minimum_nodes=1, total_tokens=1000, **timings)
with Job(sys.argv[2], coordination_config=config) as job:
    print('entered', flush=True)
    time.sleep(600)
"""
LIMIT_MS = 60_000


class Workers:
    """Worker processes on one store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, name: str) -> subprocess.Popen[str]:
        """Start a worker, and wait until it has entered."""
        command = [sys.executable, '-c', WORKER, self.url, name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == 'entered\n'
        return process

    def close(self) -> None:
        """Kill those that are left."""
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(f'sqlite:///{tmp_path}/jobs.db')
    yield workers
    workers.close()


@pytest.fixture
def server(workers: Workers) -> Iterator[Server]:
    workers.start('w1')
    with Server(cluster_app(lambda: Cluster(workers.url)), 0) as server:
        yield server


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = shutil.which('chromium')
    assert program, 'the tests of the page need chromium'
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=['--no-sandbox'])
        yield browser
        browser.close()


def opened(browser: Any, server: Server, **options: Any) -> tuple[Any, list[str]]:
    """Open the page, and return it with what the browser complains of."""
    complaints: list[str] = []
    page = browser.new_page(**options)
    page.set_default_timeout(LIMIT_MS)
    page.on('console', lambda message: complaints.append(message.text))
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.goto(f'http://127.0.0.1:{server.port}/')
    page.wait_for_selector('#nodes tr')
    return page, complaints


@pytest.mark.parametrize('options', [{}, {'viewport': {'width': 390, 'height': 844}, 'color_scheme': 'dark'}], ids=['', 'phone'])
def test_the_page_follows_the_cluster(browser: Any, server: Server, workers: Workers, options: dict[str, Any]) -> None:
    """A join, a kill and the hand-over after it show by themselves; the page never scrolls sideways, and nothing complains."""
    from playwright.sync_api import expect

    page, complaints = opened(browser, server, **options)
    second = workers.start('w2')
    expect(page.locator('#nodes tr')).to_have_count(2, timeout=LIMIT_MS)
    expect(page.locator('#summary')).to_contain_text('1,000 of 1,000', timeout=LIMIT_MS)
    second.kill()
    expect(page.locator('#history')).to_contain_text('node dead: w2', timeout=LIMIT_MS)
    expect(page.locator('#nodes tr')).to_have_count(1, timeout=LIMIT_MS)
    expect(page.locator('#problems')).to_contain_text('all is well', timeout=LIMIT_MS)
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    assert complaints == []


def test_a_task_is_explained(browser: Any, server: Server) -> None:
    """By the keyboard alone: the field, a task, Enter."""
    page, complaints = opened(browser, server)
    page.focus('#why-task')
    page.keyboard.type('7')
    page.keyboard.press('Enter')
    page.wait_for_selector('#why-answer li')
    assert "'w1' may do it." in page.text_content('#why-answer')
    assert complaints == []


def test_a_text_from_the_store_is_text(browser: Any, server: Server, workers: Workers) -> None:
    """Markup in a task's id or in the reason of a lock is shown, not run."""
    from playwright.sync_api import expect

    evil = '<img src=x onerror="document.title=1">'
    with Cluster(workers.url) as cluster:
        cluster.add_lock(evil, 'gpu-%', evil, actor=evil)
    page, complaints = opened(browser, server)
    expect(page.locator('#problems')).to_contain_text('<img', timeout=LIMIT_MS)
    assert page.title() == 'jobsync'
    assert page.query_selector('img') is None
    assert complaints == []
