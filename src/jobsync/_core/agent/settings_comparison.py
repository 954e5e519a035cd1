"""Settings in which the nodes of a cluster differ, though they should not: logged once by each node, and shown in its status."""

from __future__ import annotations

import functools
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from jobsync._core.agent.events import Event, LogMessage
from jobsync._core.records import Member, Node, NodeState

__all__ = ['SHOULD_BE_EQUAL', 'SettingDifference', 'SettingsComparison', 'settings_of']

LEADERS = 'the setting of the node that leads counts for all nodes'
SHOULD_BE_EQUAL: Mapping[str, str] = {
    'locks_enabled': f'{LEADERS}: with False it ignores every task lock',
    'retention_days': f'{LEADERS}: it deletes what is older',
    'rejoin_grace_sec': LEADERS,
    'rebalance_delay_sec': LEADERS,
    'max_attempts': 'a node without it starts what is in quarantine on the others',
    'lease_margin': 'the smallest one is what the clocks of all machines must keep',
    'heartbeat_timeout_sec': 'tokens of a dead node wait for the longest one',
}
"""By setting, what it means that nodes differ in it.

Neither the cluster settings, for a node with others cannot join, nor ``minimum_nodes``, which counts once in a cluster's life.
"""


@attrs.frozen
class SettingDifference:
    """A setting in which another node differs from this one."""

    setting: str
    node: str
    """The name of the other node."""
    there: object
    """The value in the record of the other node."""
    here: object


class SettingsComparison:
    """The differences between one node and the registered others as it has last read them, through all its incarnations."""

    def __init__(self, name: str, settings: str, emit: Callable[[Event], object]) -> None:
        self._name, self._mine, self._emit = name, settings_of(settings), emit
        self._read: dict[str, tuple[str, str]] = {}
        """By name, the incarnation and its settings."""
        self._logged: set[tuple[str, str]] = set()
        self.all: tuple[SettingDifference, ...] = ()
        """The differences, by setting and name."""

    def take(self, nodes: Iterable[Node]) -> None:
        """Take a reading of all nodes. Log each value that is another than this node's once, with the first node that has it."""
        others = (node for node in nodes if node.state is NodeState.JOINED and node.name != self._name)
        self._take({node.name: (node.incarnation, node.settings) for node in others})

    def read_version(self, members: Mapping[str, Member]) -> None:
        """Take the members of a new version, and drop what was read of runs that are not among them.

        A node that is not next in line to lead may read the nodes once, and never again.
        """
        runs = {name: member.incarnation for name, member in members.items()}
        self._take({name: found for name, found in self._read.items() if runs.get(name) == found[0]})

    def _take(self, read: dict[str, tuple[str, str]]) -> None:
        if read == self._read:
            return
        self._read = read
        self.all = tuple(self._differences(read))
        for found in self.all:
            value = found.setting, repr(found.there)
            if value not in self._logged:
                self._logged.add(value)
                same = sum(each.setting == found.setting and each.there == found.there for each in self.all) - 1
                others = f' and {same} more' if same else ''
                here, there = map(reprlib.repr, (found.here, found.there))
                text = (
                    f'{found.setting} is {here} on node {self._name!r} and {there} on node {found.node!r}{others}: '
                    f'{SHOULD_BE_EQUAL[found.setting]}; give all nodes the same'
                )
                self._emit(LogMessage('warning', text))

    def _differences(self, read: Mapping[str, tuple[str, str]]) -> Iterator[SettingDifference]:
        theirs = {name: settings_of(text) for name, (_, text) in sorted(read.items())}
        for setting in SHOULD_BE_EQUAL:
            for name, settings in theirs.items():
                if setting in settings and setting in self._mine and settings[setting] != self._mine[setting]:
                    yield SettingDifference(setting, name, settings[setting], self._mine[setting])


def settings_of(text: str) -> Mapping[str, Any]:
    """Return the settings in a node's record; none if a person has edited the record so that it has none (rule R9)."""
    return _parsed(text) if isinstance(text, str) else {}


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)  # Python reads NaN and 1e999, and other programs would have to read them in its lists
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
