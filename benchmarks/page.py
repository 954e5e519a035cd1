"""What the page of a large cluster costs a browser, the network and the store.

    python -m benchmarks.page                             # 1,000 nodes, a million tokens, 100,000 task locks; half a minute
    python -m benchmarks.page --seconds 120 --pages 20

Chromium shows the page of a store in memory. Each second a fifth of the nodes send a heartbeat, as a thousand nodes with the
default interval do, and every five seconds tokens move from one node to another. Frames and long tasks are what the browser
measures itself; the share of a core is that of the page's main thread. A frame of more than 50 ms is one that people notice.
The calls to the store are counted with one page and with many. Needs the program ``chromium`` and the group ``browser``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.web.conftest import LIMIT_MS
from tests.web.test_feed import big

from jobsync import Cluster
from jobsync.backend import TokenGroup
from jobsync.testing import FaultyBackend
from jobsync.web import Server, cluster_app

__all__ = ['Load', 'percentile', 'summary']

_NOTICED_MS = 50.0
_PARTS = 5
"""In so many seconds each node sends a heartbeat."""
_MOVED = 100
"""Tokens of a hand-over."""
_WATCH = """() => {
  window.long = [];
  window.frames = [];
  new PerformanceObserver(list => long.push(...list.getEntries().map(entry => entry.duration))).observe({ type: 'longtask' });
  let last = performance.now();
  const tick = now => { frames.push(now - last); last = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""
"""Record how long the tasks of the browser take that take more than 50 ms, and the time from frame to frame."""


class Load:
    """A cluster that works: heartbeats of all nodes in turn, and a hand-over now and then."""

    def __init__(self, nodes: int, tokens: int, locks: int) -> None:
        self.namespace, self.refs = big(nodes, tokens, locks)
        self._moving = range(0, tokens, nodes)[:_MOVED]  # which the leader has at first
        self._second = 0

    def pass_second(self) -> None:
        """Make the records of one second."""
        version = self.namespace.snapshot().version
        for ref in self.refs[self._second % _PARTS :: _PARTS]:
            self.namespace.beat(ref, version)
        if self._second % _PARTS == 0 and len(self.refs) > 1:
            target = self.refs[1 + self._second // _PARTS % (len(self.refs) - 1)].name
            group = TokenGroup(self._moving, target)
            self.namespace.commit(self.refs[0], group, moved=len(self._moving), reason=f'node joined: {target}')
        self._second += 1


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which so many of the others are; 0 without any."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def summary(frames: Sequence[float], long: Sequence[float], sizes: Mapping[str, Sequence[int]], seconds: float) -> dict[str, str]:
    """Return what was measured of one page, in words.

    Args:
        frames: From frame to frame, in milliseconds.
        long: Tasks of the browser that took more than 50 ms, in milliseconds.
        sizes: By the name of the event, the bytes of each that was received.
        seconds: How long the page was watched.
    """
    noticed = [each for each in frames if each > _NOTICED_MS]
    changes = sizes.get('change', ())
    return {
        'frames': f'{len(frames) / seconds:.1f} a second, median {median(frames or [0]):.1f} ms, 99th percentile '
        f'{percentile(frames, 0.99):.1f} ms, longest {max(frames, default=0):.0f} ms, over {_NOTICED_MS:.0f} ms: {len(noticed)}',
        'long tasks': f'{len(long)}, longest {max(long, default=0):.0f} ms, {sum(long) / seconds / 10:.2f} % of the time',
        'first answer': f'{max(sizes.get("state", [0])) / 1000:.0f} kB',
        'updates': f'{len(changes)}, median {median(changes or [0]) / 1000:.1f} kB, largest {max(changes, default=0) / 1000:.1f}',
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--nodes', type=int, default=1000)
    parser.add_argument('--tokens', type=int, default=1_000_000)
    parser.add_argument('--locks', type=int, default=100_000)
    parser.add_argument('--seconds', type=int, default=30)
    parser.add_argument('--pages', type=int, default=10)
    chosen = parser.parse_args()
    if (program := shutil.which('chromium')) is None:
        sys.exit('benchmarks.page needs the program chromium')
    from playwright.sync_api import sync_playwright

    load = Load(chosen.nodes, chosen.tokens, chosen.locks)
    counted = FaultyBackend(load.namespace.backend)
    print(f'{chosen.nodes} nodes, {chosen.tokens} tokens, {chosen.locks} task locks, {chosen.seconds} s each')
    with Server(cluster_app(lambda: Cluster(counted), token=None), 0) as server, sync_playwright() as playwright:
        options = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu']
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=LIMIT_MS)
        for number in (1, chosen.pages):
            pages = [Watched(browser, f'http://127.0.0.1:{server.port}/') for _ in range(number)]
            counted.calls.clear()
            found = pages[0].watch(load, chosen.seconds)
            print(
                f'{number} open: the store is called {len(counted.calls) / chosen.seconds:.1f} times a second, by the page alone'
            )
            for name, words in found.items():
                print(f'  {name}: {words}')
            for page in pages:
                page.close()
        browser.close()


class Watched:
    """A page in the browser, and what it receives."""

    def __init__(self, browser: Any, address: str) -> None:
        self.sizes: dict[str, list[int]] = {}
        self._page = browser.new_page(viewport={'width': 1180, 'height': 1040})
        self._page.set_default_timeout(LIMIT_MS)
        self._session = self._page.context.new_cdp_session(self._page)
        for domain in ('Network', 'Performance'):
            self._session.send(f'{domain}.enable')
        self._session.on('Network.eventSourceMessageReceived', self._receive)
        self._page.goto(address)
        self._page.wait_for_selector('#health:not([data-level=none])')

    def _receive(self, event: Mapping[str, Any]) -> None:
        self.sizes.setdefault(event['eventName'], []).append(len(event['data'].encode()))

    def _metrics(self) -> dict[str, float]:
        return {each['name']: each['value'] for each in self._session.send('Performance.getMetrics')['metrics']}

    def watch(self, load: Load, seconds: int) -> dict[str, str]:
        """Let the cluster work for some seconds, and return what the page has cost."""
        self._page.wait_for_timeout(2000)  # the first layout is not what is measured
        self._page.evaluate(_WATCH)
        before, begun = self._metrics(), time.monotonic()
        for number in range(seconds):
            load.pass_second()
            self._page.wait_for_timeout(max(0.0, 1000 * (begun + number + 1 - time.monotonic())))
        after, took = self._metrics(), time.monotonic() - begun
        frames, long = self._page.evaluate('[frames, long]')
        busy = (after['TaskDuration'] - before['TaskDuration']) / took
        return {
            **summary(frames, long, self.sizes, took),
            'main thread': f'{100 * busy:.1f} % of a core',
            'memory': f'{after["JSHeapUsedSize"] / 1e6:.1f} MB of JavaScript, {before["JSHeapUsedSize"] / 1e6:.1f} MB before; '
            f'{after["Nodes"]:.0f} nodes of the document',
        }

    def close(self) -> None:
        """Close the page."""
        self._page.close()


if __name__ == '__main__':
    main()
