"""The assignment in layers, and the scripts' contracts: what needs no server."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from importlib import resources
from itertools import chain
from random import Random

import pytest
from tests.backends.redis_calls import listed_commands

from jobsync._core.assignment import Assignment, Changes, Plan, TokenGroup
from jobsync._core.records import NOBODY, Member, Revision
from jobsync.backends._common.tokens import latest
from jobsync.backends.redis.layers import MOST_ENTRIES, SMALL, entries_to_fold, is_long, packed, unpacked
from jobsync.backends.redis.records import SpoiltRecord
from jobsync.backends.redis.script import script
from jobsync.backends.single_writer import AssignmentTable as Reference

NAMES = ['a', 'b', 'é\n"', None]
SCRIPTS = sorted(
    path.name.removesuffix('.lua')
    for path in (resources.files('jobsync.backends.redis') / 'scripts').iterdir()
    if path.name.endswith('.lua') and path.name != 'common.lua'
)


def applied(layers: Iterable[Iterable[TokenGroup]], tokens: int, version: Revision) -> Assignment:
    """What a reader has of it, read whole."""
    return Assignment.empty(tokens).apply(Changes(version, None, {}, latest(chain.from_iterable(reversed([*layers]))), ()))


def rows(assignment: Assignment) -> list[object]:
    """Every row."""
    return [assignment.row(token) for token in range(assignment.total_tokens)]


def random_plan(random: Random, tokens: int, share: float, number: int) -> Plan:
    """Any groups of about a share of the tokens."""
    chosen = [token for token in range(tokens) if random.random() < share]
    groups = []
    for _ in range(3):
        part = [token for token in chosen if random.random() < 0.5]
        chosen = sorted(set(chosen) - set(part))
        place = random.choice(NAMES), random.choice([*NAMES, NOBODY]), random.choice(NAMES)
        groups.append(TokenGroup(part, *place, random.randrange(number + 1)))
    return Plan('test', number, groups=tuple(group for group in groups if group.tokens))


@pytest.mark.parametrize(('tokens', 'share'), [(1, 1.0), (40, 0.5), (2000, 0.01), (40_000, 0.5)])
def test_many_commits(tokens: int, share: float) -> None:
    """After many commits a reading is what the reference has, and the log stays short by a few foldings."""
    random = Random(tokens)
    reference, base, log, foldings, most = Reference(), b'', list[bytes](), 0, 0
    commits = 3 * MOST_ENTRIES if tokens < 10_000 else 20
    for number in range(1, commits):
        revision = Revision(2 * number, random.getrandbits(62))
        plan = random_plan(random, tokens, share, revision.number)
        log.append(packed(plan.groups))
        sizes = [*map(len, log)]
        if is_long(len(log), sum(sizes), len(base)):
            folded, foldings = entries_to_fold(len(base), sizes), foldings + 1
            base, log = (
                packed(latest(chain.from_iterable(unpacked(blob)[0] for blob in (*reversed(log[:folded]), base)))),
                log[folded:],
            )
            assert not is_long(len(log), sum(map(len, log)), len(base))
        most = max(most, len(log))
        reference = reference.commit(plan, revision)
        if tokens < 1_000 or number % 4 == 3:  # to compare many rows takes longer than to commit them
            expected = rows(Assignment.empty(tokens).apply(reference.read(None)))
            assert rows(applied([unpacked(blob)[0] for blob in (base, *log)], tokens, revision)) == expected
    assert 1 <= foldings <= commits / 2
    assert most <= MOST_ENTRIES
    assert tokens > 10_000 or most == MOST_ENTRIES


@pytest.mark.parametrize(
    ('base', 'sizes', 'folded'),
    [(0, [], 0), (0, [SMALL], 1), (0, [10] * 65, 33), (10**6, [400_000, 400_000, 300_000], 2), (10**6, [10, 10**6], 2)],
)
def test_what_is_folded(base: int, sizes: list[int], folded: int) -> None:
    """The newest entries stay, for readers who are a little behind, unless they are as large as what they stand on."""
    assert entries_to_fold(base, sizes) == folded


def test_a_layer_is_packed_as_it_is() -> None:
    """Any names, any numbers, any kind of sequence; nothing is nothing."""
    layer = (TokenGroup(range(5, 9), 'é\n', NOBODY, None, 2**50), TokenGroup([2**31 - 1], None, 'b', 'c', 1))
    members = {'é\n': Member('1', 0.1, 2**53 - 1), 'b': None}
    groups, members_found = unpacked(packed(layer, members))
    found = tuple(groups)
    assert [(list(group.tokens), *key(group)) for group in found] == [(list(group.tokens), *key(group)) for group in layer]
    assert members_found == members
    for nothing in (packed(()), b''):
        groups, members_found = unpacked(nothing)
        assert (tuple(groups), members_found) == ((), {})
    assert packed(layer).endswith(array('i', [2**31 - 1]).tobytes())


def test_a_layer_that_was_changed() -> None:
    """Any byte of it that is another shows."""
    blob = packed((TokenGroup(range(5, 9), 'a', None, None, 3),))
    for at in range(len(blob)):
        with pytest.raises(SpoiltRecord):
            unpacked(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
    with pytest.raises(SpoiltRecord):
        unpacked(blob + b'1234')


def key(group: TokenGroup) -> tuple[object, ...]:
    """All but its tokens."""
    return group.owner, group.target, group.home, group.version


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_script_keeps_to_its_contract(name: str) -> None:
    """It uses the keys and arguments of its header, all of them, and says what it returns."""
    code = script(name)
    text = (resources.files('jobsync.backends.redis') / 'scripts' / f'{name}.lua').read_text(encoding='utf-8')
    body = re.sub('--.*', '', text)
    assert set(re.findall(r'\bkey\.(\w+)', body)) <= set(code.keys)
    assert set(re.findall(r'\bgiven\.(\w+)', body)) <= {*code.arguments, 'channel', 'schema'}
    assert '-- Returns: ' in text
    assert ('-- REST: ' in text) == ('rest(' in body)
    assert code.is_bulk is ('-- TIME: bulk\n' in text)
    assert code.is_bulk or '-- REST: ' not in text, 'a call with any number of arguments takes its time'


def test_rights_are_checked_for_every_command() -> None:
    """The list of what the scripts do has all that they do, and no more."""
    folder = resources.files('jobsync.backends.redis') / 'scripts'
    common, *others = ((folder / f'{name}.lua').read_text(encoding='utf-8') for name in ['common', *SCRIPTS] if name != 'rights')
    used = re.findall(r"\bredis\.call\('([A-Z]+)'|\bin_parts\(\w+, '([A-Z]+)'", '\n'.join([common, *others]))
    assert {one or other for one, other in used} == listed_commands().keys()
    tried = re.findall(r"\btry\('([A-Z]+)'", (folder / 'rights.lua').read_text(encoding='utf-8'))
    assert {*tried} == listed_commands().keys()
    reading = common[common.index('local READING') :].partition('}')[0]
    assert set(re.findall("'([A-Z]+)'", reading)) <= listed_commands().keys()
