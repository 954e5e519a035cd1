"""The measurement of the page: the cluster that it shows, and what it says of the numbers."""

from __future__ import annotations

from benchmarks.page import Load, percentile, summary


def test_a_cluster_at_work() -> None:
    """Every node sends a heartbeat in five seconds, and tokens move from node to node."""
    load = Load(5, 100, 3)
    before = load.namespace.nodes()
    for _ in range(10):
        load.pass_second()
    after = load.namespace.nodes()
    assert all(after[name].heartbeat >= before[name].heartbeat + 2 for name in before)
    loads = load.namespace.assignment().loads
    assert sum(loads.values()) == 100
    assert not loads.get('worker-0000')


def test_what_is_said() -> None:
    """Frames that people notice are counted, and updates have their sizes."""
    found = summary([16.0] * 98 + [60.0, 100.0], [60.0, 100.0], {'state': [140_000], 'change': [6000, 8000, 7000]}, 2.0)
    assert found['frames'].startswith('50.0 a second, median 16.0 ms')
    assert found['frames'].endswith('longest 100 ms, over 50 ms: 2')
    assert found['long tasks'] == '2, longest 100 ms, 8.00 % of the time'
    assert found['first answer'] == '140 kB'
    assert found['updates'] == '3, median 7.0 kB, largest 8.0'
    assert percentile([], 0.99) == 0
    assert percentile(range(100), 0.99) == 99
