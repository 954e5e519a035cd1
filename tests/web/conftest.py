"""A cluster of real processes, a server of its page, and a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobsync import Cluster
from jobsync.web import Server, cluster_app

TOKEN = 'a-token-of-a-test'
LIMIT_MS = 240_000
"""For what happens at once on a quiet machine: a limit against hanging."""
WORKERS = """
import contextlib, sys, time
from jobsync import CoordinationConfig, Job
url, timeout_sec, *names = sys.argv[1:]
timings = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': float(timeout_sec), 'rebalance_delay_sec': 0.2}
def config():
    # A worker that is killed is to be seen as silent, as if its host had failed.
    own = {'op_timeout_sec': 20, 'known_death': False}
    return CoordinationConfig(backend=url, minimum_nodes=1, total_tokens=1000, **own, **timings)
with contextlib.ExitStack() as stack:
    for name in names:
        job = stack.enter_context(Job(name, coordination_config=config()))
    print('entered', flush=True)
    for _ in job.claim(['a task that takes long']):
        time.sleep(600)
    time.sleep(600)
"""


class Workers:
    """Worker processes on one store, each with one node or several."""

    def __init__(self, url: str, timeout_sec: float = 6) -> None:
        self.url = url
        self.timeout_sec = timeout_sec
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *names: str) -> subprocess.Popen[str]:
        """Start a process with nodes of these names, and wait until they have entered."""
        command = [sys.executable, '-c', WORKERS, self.url, str(self.timeout_sec), *names]
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
    """A server that shows the cluster of the workers, and changes it for those who have the token."""
    with Server(cluster_app(lambda: Cluster(workers.url), token=TOKEN), 0) as server:
        yield server


@pytest.fixture(scope='module')
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Debian's Chromium, which Playwright drives. Absent, it is missed with ``--full`` and skipped otherwise."""
    program = shutil.which('chromium')
    if program is None and not request.config.getoption('full'):
        pytest.skip('the page is not tested in a browser: there is no program chromium here')
    assert program, 'the page is tested in a browser: install the program chromium'
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu']
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=LIMIT_MS)
        yield browser
        browser.close()


class Screen:
    """A page that is open, and what the browser complains of."""

    def __init__(self, browser: Any, server: Server, address: str = '', **options: Any) -> None:
        self.complaints: list[str] = []
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(LIMIT_MS)
        self.page.on('console', lambda message: self.complaints.append(message.text))
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.page.goto(f'http://127.0.0.1:{server.port}/{address}')
        self.page.wait_for_selector('#health:not([data-level=none])')

    def expect(self, selector: str) -> Any:
        """Return what can be expected of an element, with patience."""
        from playwright.sync_api import expect

        expect.set_options(timeout=LIMIT_MS)
        return expect(self.page.locator(selector))

    def fits(self) -> bool:
        """Return whether nothing has to be scrolled sideways."""
        return bool(self.page.evaluate('document.documentElement.scrollWidth <= window.innerWidth'))

    def picture(self, name: str, of: str | None = None) -> None:
        """Take a screenshot, of the window or an element, into the folder that ``JOBSYNC_SCREENSHOTS`` names, if it does."""
        folder = os.environ.get('JOBSYNC_SCREENSHOTS')
        if folder:
            taken = self.page if of is None else self.page.locator(of)
            taken.screenshot(path=Path(folder) / f'{name}.png')

    def close(self) -> None:
        """Close the page."""
        with contextlib.suppress(Exception):
            self.page.close()


@pytest.fixture
def screens(browser: Any, server: Server) -> Iterator[Any]:
    """A function that opens the page, with the options of a page of Playwright."""
    opened: list[Screen] = []

    def screen(address: str = '', of: Server = server, **options: Any) -> Screen:
        opened.append(Screen(browser, of, address, **options))
        return opened[-1]

    yield screen
    for each in opened:
        each.close()
