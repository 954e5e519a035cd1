"""Acknowledgements of versions before the one at hand, and how long they count: ``jobsync._core.leader.requests``."""

from __future__ import annotations

import tracemalloc

import attrs
from hypothesis import given
from hypothesis import strategies as st
from tests.core.builders import Scene, assigned, joining, later, revision

from jobsync._core.assignment import Plan, TokenGroup
from jobsync._core.leader.inputs import LeaderState
from jobsync._core.leader.requests import _MOST, Requests
from jobsync._core.records import Pin

TOKENS = 4


def busy() -> tuple[Scene, int]:
    """A cluster in which c joins, a is busy with the token that it is to give up, and b has given up its own; the busy token."""
    scene = joining()
    one, _ = sorted(scene.assignment.targets)
    scene.acknowledge('a', holding=[one])
    scene.acknowledge('b')
    scene.decide()
    scene.now += 0.1
    scene.commit()
    assert dict(scene.assignment.targets) == {one: 'c'}
    return scene, one


def release(scene: Scene, name: str) -> Plan | None:
    """Let a node report that it holds nothing any more, of the version that it has acknowledged last; return what is planned."""
    scene.nodes[name] = attrs.evolve(scene.nodes[name], holding=frozenset())
    scene.decide()
    scene.now += 10.0
    return scene.decide().plan


def weigh(scene: Scene, name: str, weight: float) -> set[int]:
    """Give a node another weight, and let the leader commit what follows; return what is requested then."""
    scene.nodes[name] = attrs.evolve(scene.nodes[name], weight=weight)
    scene.commit()
    return set(scene.assignment.targets)


def test_an_acknowledgement_counts_while_its_request_stands() -> None:
    """R3: what an owner releases of an earlier version is released, if each version since then requests it too."""
    scene, one = busy()
    assert release(scene, 'a')
    scene.commit()
    assert scene.assignment.row(one).owner == 'c'


def test_what_is_requested_later_waits_for_its_own_acknowledgement() -> None:
    """R3: the acknowledgement of an earlier version is none for a token that a later version requests first."""
    scene, one = busy()
    more = weigh(scene, 'a', 0.0) - {one}
    assert more
    assert release(scene, 'a')
    scene.commit()
    assert set(scene.assignment.targets) == more
    assert release(scene, 'a') is None
    scene.acknowledge('a')
    scene.commit()
    assert not scene.assignment.targets


def test_what_is_requested_later_is_released_by_its_own_acknowledgement() -> None:
    """The acknowledgement of the very version that adds a request counts for it, amid a series too."""
    scene, one = busy()
    more = weigh(scene, 'a', 0.0) - {one}
    assert more
    scene.acknowledge('a', holding=[one])
    scene.decide()
    scene.now += 10.0
    scene.commit()
    assert set(scene.assignment.targets) == {one}


def test_a_request_that_was_withdrawn_begins_anew() -> None:
    """R3: an owner that had its token back for a version has released nothing of it when it is requested again."""
    scene, _ = busy()
    first = weigh(scene, 'a', 0.0)
    kept = weigh(scene, 'a', 1.0)
    scene.acknowledge('a', holding=kept)
    assert weigh(scene, 'a', 0.0) == first > kept
    assert release(scene, 'a')
    scene.commit()
    assert set(scene.assignment.targets) == first - kept


def test_a_version_that_another_has_committed_ends_the_series() -> None:
    """R3: of versions before one that this leader did not commit itself nothing counts, whatever the two have in common."""
    scene, one = busy()
    scene.assignment = later(scene.assignment, Plan('made manually'))
    assert release(scene, 'a') is None
    scene.acknowledge('a')
    scene.commit()
    assert scene.assignment.row(one).owner == 'c'


def test_a_commit_upon_an_unknown_version_begins_a_series() -> None:
    """R3: a version that the leader has committed upon one it did not note continues nothing."""
    requests, known = Requests(), assigned('aab', targets={0: 'b'})
    requests.read(known.version)
    unknown = later(known, Plan('by another'))
    after = later(unknown, Plan('any'))
    requests.commit(unknown, Plan('any'), after.version)
    assert requests.versions == (after.version,)
    assert not requests.begun_here


def test_a_new_term_begins_a_series() -> None:
    """R3: a leader counts no acknowledgement of versions that it has not committed in its term."""
    scene, _ = busy()
    scene.state = LeaderState(timeline_read_at=0.0)
    assert release(scene, 'a') is None


def test_a_series_is_bounded() -> None:
    """A leader remembers so many versions, and what was requested since the first of these."""
    requests, before = Requests(), assigned('aaaa', targets={0: 'b'})
    requests.read(before.version)
    for step in range(3 * _MOST):
        number = before.version.number + 1
        plan = Plan('any', number, groups=(TokenGroup([1], 'a', None if step % 2 else 'c', None, 5),))
        after = later(before, plan)
        requests.commit(before, plan, after.version)
        before = after
    assert len(requests.versions) == _MOST
    assert {request.version for request in requests.added} < set(requests.versions)


def test_a_request_of_many_tokens_takes_few_bytes_for_each() -> None:
    """Half a million tokens that are requested amid a series take no more than numbers in an array do."""
    tokens = 50_000
    before = assigned('a' + 'b' * tokens, targets={0: 'b'})
    plan = Plan('any', 6, groups=(TokenGroup(range(1, tokens + 1), 'b', 'a', None, 5),))
    requests = Requests()
    requests.read(before.version)
    tracemalloc.start()
    try:
        requests.commit(before, plan, revision(6))
        assert tracemalloc.get_traced_memory()[0] < 20 * tokens
    finally:
        tracemalloc.stop()
    assert len(requests.versions) == 2


@st.composite
def plans(draw: st.DrawFn) -> list[dict[int, tuple[str, str | None] | None]]:
    """What each of some plans writes: for tokens and pins the owner and target; None for a pin that goes."""
    rows = st.tuples(st.sampled_from('ab'), st.sampled_from([None, 'a', 'c']))
    writes = st.dictionaries(st.sampled_from(range(TOKENS)), rows, max_size=TOKENS)
    pins = st.dictionaries(st.sampled_from(range(TOKENS, TOKENS + 2)), st.none() | rows, max_size=2)
    return draw(st.lists(st.builds(lambda tokens, pinned: {**tokens, **pinned}, writes, pins), min_size=1, max_size=8))


@given(plans())
def test_a_version_counts_for_what_each_later_one_requests_too(steps: list[dict[int, tuple[str, str | None] | None]]) -> None:
    """For every token and pin: those versions since when it has had its owner and a target, back to where the series begins.

    It begins with a version that requests what the one before did not, or that removes a pin.
    """
    requests, before = Requests(), assigned('aabb')
    requests.read(before.version)
    series = [before]
    for step in steps:
        number = before.version.number + 1
        groups, pins = [], []
        for place, row in step.items():
            if row is not None and place < TOKENS:
                was = before.row(place)
                groups.append(TokenGroup([place], *row, None, was.version if was.owner == row[0] else number))
            elif row is not None:
                pins.append(Pin(place, f't{place - TOKENS}', *row, number))
        unpinned = frozenset(place for place, row in step.items() if row is None and place in before.pins)
        plan = Plan('any', number, groups=tuple(groups), pins=tuple(pins), unpinned=unpinned)
        after = later(before, plan)
        requests.commit(before, plan, after.version)
        is_calm = not any(before.asked_of(place) for place in range(TOKENS + 2))
        series = [after] if is_calm or unpinned else [*series, after]
        assert requests.versions == tuple(each.version for each in series)
        for place in range(TOKENS + 2):
            if (owner := after.asked_of(place)) is None:
                continue
            since = [all(later_one.asked_of(place) == owner for later_one in series[at:]) for at in range(len(series))]
            added = [each.version.number for each in requests.added if each.owner == owner and place in each.tokens]
            counted = [each.version.number >= max(added, default=0) for each in series]
            assert counted == since, place
        before = after
