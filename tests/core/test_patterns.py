"""LIKE over node names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobsync._core.patterns import Choice, Matcher, NodeNames, choose, compile_like
from jobsync.errors import ConfigError


def like(text: str, pattern: str) -> bool:
    """LIKE by its definition: try everything. Exponential, so for short strings only."""
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == '%':
        return any(like(text[n:], rest) for n in range(len(text) + 1))
    if not text:
        return False
    if head == '\\':
        return text[0] == rest[0] and like(text[1:], rest[1:])
    return head in ('_', text[0]) and like(text[1:], rest)


@pytest.mark.parametrize(
    ('pattern', 'yes', 'no'),
    [
        ('worker-01', ['worker-01'], ['worker-1', 'worker-011', 'xworker-01', 'WORKER-01', '']),
        ('prod-%', ['prod-', 'prod-a', 'prod-a\nb'], ['prod', 'xprod-a', 'Prod-a']),
        ('%-gpu', ['-gpu', 'a-gpu', 'a\n-gpu'], ['a-gpu\n', 'a-gpu1', 'gpu']),
        ('%special%', ['special', 'a special b', 'specialspecial'], ['specia', 'Special']),
        ('w_', ['w1', 'w_', 'w\n', 'w日', 'w😀'], ['w', 'w12']),
        ('_', ['a', '\n', '.'], ['', 'ab']),
        ('', [''], ['a', '\n']),
        ('%', ['', 'a', 'a\nb'], []),
        ('%%', ['', 'a', 'ab'], []),
        ('_%_', ['ab', 'abc'], ['', 'a']),
        ('ab%ba', ['abba', 'ab-ba'], ['aba']),
        ('%a_c%a_d', ['abcabd', 'xabcxa-d', 'abdabcabd'], ['abd', 'abcbd', 'abdabc']),
        (r'100\%', ['100%'], ['100', '100x', r'100\%']),
        (r'a\_b', ['a_b'], ['axb']),
        (r'a\\b', ['a\\b'], [r'a\\b', 'ab']),
        (r'\a\b', ['ab'], [r'\a\b']),
        (r'\\%', ['\\', '\\a'], ['%', 'a']),
        ('a.b*[c]$', ['a.b*[c]$'], ['axb*[c]$', 'a.bc']),
        ('worker-01,worker-02', ['worker-01,worker-02'], ['worker-01', 'worker-02']),
    ],
)
def test_meaning(pattern: str, yes: list[str], no: list[str]) -> None:
    """Each form means what PostgreSQL's LIKE means by it."""
    matches = compile_like(pattern).matches
    assert [name for name in yes if not matches(name)] == []
    assert [name for name in no if matches(name)] == []


@given(
    pattern=st.lists(st.sampled_from(['a', 'b', '%', '_', '\\%', '\\_', '\\\\', '\\a', '\n', '.']), max_size=9).map(''.join),
    text=st.text('ab%_\\\n.', max_size=9),
)
@example(pattern='a%ba', text='aba')
@example(pattern='%ab_%b', text='aab')
def test_agrees_with_the_definition(pattern: str, text: str) -> None:
    """Every pattern gives the answer that trying all possibilities gives."""
    assert compile_like(pattern).matches(text) is like(text, pattern)


@given(text=st.text(max_size=30))
def test_an_escaped_text_matches_itself_only(text: str) -> None:
    """A text with a backslash before each character matches that text and nothing longer."""
    matches = compile_like(''.join(f'\\{c}' for c in text)).matches
    assert matches(text)
    assert not matches(text + 'x')


@pytest.mark.parametrize(
    ('pattern', 'answer'),
    [
        ('%a' * 500 + '%b', False),
        ('%a_a' * 200 + '%b', False),
        ('%_' * 500 + 'b', False),
        ('%a%' * 500, True),
        ('%' * 5000 + 'b', False),
        ('%' + 'a' * 500 + 'b%', False),
        ('0123456789abcdef' * 125_000, False),
    ],
)
def test_no_pattern_blows_up(pattern: str, answer: bool) -> None:
    """A pattern that would take an ordinary expression for ever is answered (the suite's own time limit would end it)."""
    assert compile_like(pattern).matches('a' * 100_000) is answer


@pytest.mark.parametrize('pattern', ['\\', 'a\\', '\\\\\\', '%\\'])
def test_lone_escape(pattern: str) -> None:
    """A pattern that ends in an escape with nothing to escape is refused, as in PostgreSQL."""
    with pytest.raises(ConfigError, match='must not end with an escape') as caught:
        compile_like(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize('pattern', [None, 3, b'a%', ['a%'], ('a',)])
def test_not_a_string(pattern: object) -> None:
    """A pattern that is not a string is refused by value and type."""
    with pytest.raises(ConfigError, match='must be a string') as caught:
        compile_like(pattern)
    assert f'{pattern!r} ({type(pattern).__name__})' in str(caught.value)


def test_compiled_once() -> None:
    """The same pattern gives the same matcher."""
    assert compile_like('once-%') is compile_like('once-' + '%')


PATTERN = st.lists(st.sampled_from(['a', 'b', 'ab', '%', '_', '\\%', '\\_', '\\\\', '\\', '']), max_size=6).map(''.join)
NAMES = st.frozensets(st.text('ab%_\\', max_size=5), max_size=60)


def matched(patterns: Iterable[str], names: Iterable[str]) -> Choice:
    """Return the first pattern with a match, found by matching each pattern with every name."""
    for pattern in patterns:
        with suppress(ConfigError):
            if found := frozenset(filter(compile_like(pattern).matches, names)):
                return pattern, found
    return None, frozenset()


@given(names=NAMES, lists=st.lists(st.lists(PATTERN, max_size=3).map(tuple), max_size=8), again=st.booleans())
@example(names=frozenset({'a_b', 'aab', 'a'}), lists=[('a_b',), ('a\\_b',), ('a',)], again=False)
@example(names=frozenset({'a', 'b', 'aa', ''}), lists=[('_a', '_'), ('%',), ('',), ('\\',)], again=True)
def test_names_are_found_as_if_each_were_matched(names: frozenset[str], lists: list[tuple[str, ...]], again: bool) -> None:
    """Looking names up, in their order or as they are, chooses what matching every name chooses, the second time too."""
    found = NodeNames(names)
    if again:
        found.choices(lists[::2])
    assert found.choices(lists) == {patterns: matched(patterns, names) for patterns in lists}
    assert [found.choose(patterns) for patterns in lists] == [matched(patterns, names) for patterns in lists]


def test_many_characters_in_the_place_of_a_wildcard() -> None:
    """Names are found behind more different characters than are searched one by one."""
    names = frozenset(f'{chr(n)}{chr(m)}{end}' for n in range(256, 336) for m in range(256, 260) for end in 'xy')
    for pattern in ('_\u0101x', '__x', '__x%', '\u0101_y', '_%y'):
        assert choose([pattern], names) == matched([pattern], names)


@pytest.mark.parametrize('pattern', ['%-gpu-{}', '_-gpu-{}', '%-gpu-{}%', '%_-gpu-{}_%'])
def test_patterns_whose_characters_stand_in_no_name(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compiled and passed over without a comparison with each name: a lock may have tens of thousands of them."""
    names = NodeNames(frozenset(f'worker-{number}' for number in range(1000)))
    calls: list[object] = []
    monkeypatch.setattr(Matcher, 'matches', lambda *given: calls.append(given))
    monkeypatch.setattr(re, 'compile', lambda *given: calls.append(given))
    assert names.choose([pattern.format(number) for number in range(100)]) == (None, frozenset())
    assert calls == []


def test_equal_sets_are_one() -> None:
    """Lists of patterns that choose the same names share one set of them, and no longer keep the sets of the last call."""
    found = NodeNames(frozenset({'a1', 'a2', 'b1'}))
    choices = found.choices([('a%',), ('none', 'a_'), ('b1',)])
    assert choices['a%',][1] is choices['none', 'a_'][1]
    assert found.choices([('b1',)]) == {('b1',): ('b1', frozenset({'b1'}))}


@pytest.mark.parametrize(
    ('patterns', 'chosen', 'names'),
    [
        (['worker-01', 'worker-02'], 'worker-01', {'worker-01'}),
        (['worker-09', 'worker-02'], 'worker-02', {'worker-02'}),
        (['%-gpu', 'worker-%'], 'worker-%', {'worker-01', 'worker-02'}),
        (['%'], '%', {'worker-01', 'worker-02', 'other'}),
        (['%-gpu'], None, set()),
        ([], None, set()),
        (['bad\\', 'other'], 'other', {'other'}),
    ],
)
def test_the_first_pattern_with_a_match_decides(patterns: list[str], chosen: str | None, names: set[str]) -> None:
    """Later patterns are looked at only while no name matches; one that cannot be compiled matches nothing."""
    assert choose(patterns, iter(['worker-01', 'worker-02', 'other'])) == (chosen, frozenset(names))


def test_nobody_there() -> None:
    """Without names no pattern is chosen, not even one that matches everything."""
    assert choose(['%'], []) == (None, frozenset())
