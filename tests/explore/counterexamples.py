"""The shortest way to two owners with each rule taken away: searched by a command, kept in a file, shown on a page.

The file has the name of every step, so that a test replays each way in a moment, without the rule and with it.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import attrs
from tests.explore.catalogue import RULES, UNREACHED, WORLDS, Rule
from tests.explore.cluster import Cluster
from tests.explore.search import explore
from tests.explore.timeline import names, replayed, timeline
from tests.simulation.test_scenarios import SCENARIOS
from tests.simulation.test_simulation import SHOWN_BY

__all__ = ['PAGE', 'Way', 'page', 'read', 'search_all', 'write']

FILE = Path(__file__).with_name('counterexamples.json')
PAGE = Path(__file__).parents[2] / 'docs' / 'reference' / 'counterexamples.md'
HEAD = """# Counterexamples

What each rule of [the protocol](../protocol.md) prevents. The explorer (see [Testing](../contribute/testing.md)) visits the
states of a small cluster of the shipped core, the nearest first, with one rule taken away. It stops at the first state in which
two processes claim one token or task. So no way to such a state is shorter, in that world, than the one shown.

The clusters have two tokens, 0 and 1, and two tasks: x, whose hash token is 0, and y, whose hash token is 1. Times are ticks.
A node sends a heartbeat once a tick; its timeout is 4 ticks and its lease 3. A node with a longer timeout has 7 ticks and 5.25.
A second process of a name is shown with a prime: `b'`. A paused process claims what its lease gives it, for it may stand between
the answer and the work.

`python -m tests.explore --broken` makes this page, and tests replay every way on it.

"""


@attrs.frozen
class Way:
    """One counterexample."""

    world: str
    states: int
    """How many states were visited until it was found."""
    steps: tuple[str, ...]


def read() -> Mapping[str, Way]:
    """Return the counterexamples of the file, by the name of the rule."""
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    return {rule: Way(way['world'], way['states'], tuple(way['steps'])) for rule, way in kept.items()}


def search(rule: Rule, most: int | None) -> Way | int:
    """Return the shortest way to two owners without a rule, or how many states do not show it."""
    gc.disable()
    with rule():
        cluster = Cluster(WORLDS[RULES[rule]])
        found = explore(cluster, most=most, continue_every=0)
        return Way(found.world, found.states, tuple(names(cluster, found.way))) if found.problem else found.states


def search_all(pool: ProcessPoolExecutor, rules: Iterable[Rule], most: int | None) -> Iterator[tuple[str, Way | int]]:
    """Search a way for each rule, several at once, and yield what was found when it was."""
    tasks = {pool.submit(search, rule, most): rule.__name__ for rule in rules}
    for task in as_completed(tasks):
        yield tasks[task], task.result()


def page(ways: Mapping[str, Way]) -> str:
    """Return the page that shows these ways."""
    table = ['| without the rule | the world in which it shows | steps | states visited |', '| --- | --- | ---: | ---: |']
    for rule, world in RULES.items():
        name, way, says = rule.__name__, ways.get(rule.__name__), WORLDS[world].says
        found = f'{len(way.steps)} | {way.states:,}' if way else 'not found yet |'
        table.append(f'| {f"[`{name}`](#{name})" if way else f"`{name}`"} | {says} | {found} |')
    others = ['## Rules that no world shows', '', '| without the rule | why the explorer does not show it | what shows it |']
    others += ['| --- | --- | --- |', *(f'| `{rule.__name__}` | {why} | {proof_of(rule)} |' for rule, why in UNREACHED.items())]
    sections = [f'## {name}\n\n{shown(name, way)}' for name, way in ways.items()]
    return HEAD + '\n\n'.join(['\n'.join(table), '\n'.join(others), *sections]) + '\n'


def proof_of(rule: Rule) -> str:
    """Return which test of the simulator shows the lack of a rule."""
    if rule in SCENARIOS:
        return f'`test_scenarios.py`: `{SCENARIOS[rule].__name__}`'
    return f'`test_simulation.py`: the storm of seed {SHOWN_BY.get(rule.__name__, 0)}'


def shown(name: str, way: Way, cluster: Cluster | None = None) -> str:
    """Return the timeline of a counterexample, as the page has it.

    What a ``cluster`` without the rule has computed for this way is not computed again.
    """
    rule = next(rule for rule in RULES if rule.__name__ == name)
    with rule():
        lines = timeline(cluster or Cluster(WORLDS[way.world]), way.steps)
    return '\n'.join(['```text', f'Without {(rule.__doc__ or "").strip()}', '', *lines, '```'])


def write(ways: Mapping[str, Way]) -> None:
    """Write the file and the page."""
    ordered = {rule.__name__: ways[rule.__name__] for rule in RULES if rule.__name__ in ways}
    FILE.write_text(json.dumps({name: attrs.asdict(way) for name, way in ordered.items()}, indent=1) + '\n')
    PAGE.write_text(page(ordered))


def ends_in_two_owners(way: Way, cluster: Cluster) -> bool:
    """Return whether a way can be replayed to its end, and ends in two owners, and no state before has two."""
    twice = [bool(cluster.owned_twice(after)) for _, _, after in replayed(cluster, way.steps)]
    return len(twice) == len(way.steps) and twice[-1] and not any(twice[:-1])


def keeps_one_owner(way: Way) -> bool:
    """Return whether no state has two owners, as far as the way can be replayed."""
    cluster = Cluster(WORLDS[way.world])
    return not any(cluster.owned_twice(after) for _, _, after in replayed(cluster, way.steps))
