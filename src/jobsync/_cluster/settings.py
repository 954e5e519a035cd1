"""The settings of the nodes at work, and those in which they differ though they should not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from jobsync._cluster.reading import ClusterReading
from jobsync._core.agent.settings_comparison import SHOULD_BE_EQUAL, settings_of

__all__ = ['differences', 'fewest_attempts']


def differences(reading: ClusterReading) -> dict[str, Mapping[str, Sequence[str]]]:
    """Return the settings in which nodes differ, and for each value, as text, the names of the nodes that have it."""
    found: dict[str, Mapping[str, Sequence[str]]] = {}
    settings_by_text = {text: settings_of(text) for text in {node.settings for node in reading.live.values()}}
    for setting in SHOULD_BE_EQUAL:
        nodes: defaultdict[str, list[str]] = defaultdict(list)
        for name, node in sorted(reading.live.items()):
            settings = settings_by_text[node.settings]
            if setting in settings:
                nodes[repr(settings[setting])].append(name)
        if len(nodes) > 1:
            found[setting] = dict(nodes)
    return found


def fewest_attempts(reading: ClusterReading) -> int | None:
    """Return the lowest ``max_attempts`` of the nodes at work; None where none counts attempts.

    Where no node is at work, as when a batch has ended, the nodes that were at work last count.
    """
    nodes = reading.live.values() or reading.snapshot.nodes
    limits = [settings_of(node.settings).get('max_attempts') for node in nodes]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)
