"""The assignment in layers, and the scripts' contracts: what needs no server."""

from __future__ import annotations

import re
from array import array
from importlib import resources
from random import Random

import pytest

from jobsync.backends.redis.script import script
from jobsync.backends.redis.table import MOST_LAYERS, Layer, Table, merged, packed, unpacked
from jobsync.backends.single_writer import Table as Reference
from jobsync.core.model import NOBODY, Member, Revision
from jobsync.core.tokens import Assignment, Changes, Plan, TokenGroup

NAMES = ['a', 'b', 'é\n"', None]
SCRIPTS = sorted(
    path.name.removesuffix('.lua')
    for path in (resources.files('jobsync.backends.redis') / 'scripts').iterdir()
    if path.name.endswith('.lua') and path.name != 'common.lua'
)


def applied(layers: list[Layer], tokens: int, version: Revision) -> Assignment:
    """What a reader has of it, read whole."""
    return Assignment.empty(tokens).apply(Changes(version, None, {}, merged(layers), ()))


def rows(assignment: Assignment) -> list[object]:
    """Every row."""
    return [assignment.row(token) for token in range(assignment.total_tokens)]


def random_plan(random: Random, tokens: int, share: float) -> Plan:
    """Any groups of about a share of the tokens."""
    chosen = [token for token in range(tokens) if random.random() < share]
    groups = []
    for _ in range(3):
        part = [token for token in chosen if random.random() < 0.5]
        chosen = sorted(set(chosen) - set(part))
        groups.append(TokenGroup(part, random.choice(NAMES), random.choice([*NAMES, NOBODY]), random.choice(NAMES)))
    return Plan('test', {}, tuple(group for group in groups if group.tokens))


@pytest.mark.parametrize(('tokens', 'share'), [(1, 1.0), (40, 0.5), (2000, 0.01)])
def test_many_commits(tokens: int, share: float) -> None:
    """After each of many commits, in few layers or in many, a reading is what the reference has; so is a table read anew."""
    random = Random(tokens)
    table, reference, log = Table(), Reference(), list[Layer]()
    wholes, most = 0, 0
    for number in range(1, 3 * MOST_LAYERS):
        revision = Revision(2 * number, random.getrandbits(62))
        plan = random_plan(random, tokens, share)
        written = table.after(plan, revision)
        blob = packed(written.layer)
        layer, _ = unpacked(blob)
        log = [layer] if written.whole else [*log, layer]
        wholes, most = wholes + written.whole, max(most, len(log))
        reference = reference.after(plan, revision)
        expected = rows(Assignment.empty(tokens).apply(reference.read(None)))
        assert rows(applied(log, tokens, revision)) == expected
        table = written.table
        if random.random() < 0.1:
            table = Table.of(revision, log, ())
    assert wholes > 0
    assert most <= MOST_LAYERS
    assert (share > 0.1) or most == MOST_LAYERS


def test_a_layer_is_packed_as_it_is() -> None:
    """Any names, any numbers, any kind of sequence; nothing is nothing."""
    layer = (TokenGroup(range(5, 9), 'é\n', NOBODY, None, 2**50), TokenGroup([2**31 - 1], None, 'b', 'c', 1))
    members = {'é\n': Member('1', 0.1, 2**53 - 1), 'b': None}
    found, members_found = unpacked(packed(layer, members))
    assert [(list(group.tokens), *key(group)) for group in found] == [(list(group.tokens), *key(group)) for group in layer]
    assert members_found == members
    assert unpacked(packed(())) == unpacked(b'') == ((), {})
    assert packed(layer).endswith(array('i', [2**31 - 1]).tobytes())


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
    assert set(re.findall(r'\bgiven\.(\w+)', body)) <= {*code.arguments, 'channel'}
    assert '-- Returns: ' in text
    assert ('-- REST: ' in text) == ('rest(' in body)
