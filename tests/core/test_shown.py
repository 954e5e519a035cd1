"""Values in messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.shown import shown, shown_url

WORDS = st.text(st.characters(exclude_categories=['Cs']), min_size=1)


@pytest.mark.parametrize(
    ('url', 'masked'),
    [
        ('postgresql://u:secret@h:5432/db', 'postgresql://u:***@h:5432/db'),
        ('postgresql://u:se@c/r?e#t@h/db', 'postgresql://u:***@h/db'),
        ('postgresql+psycopg://u:p@h/db', 'postgresql+psycopg://u:***@h/db'),
        ('redis://:secret@h:6379/0', 'redis://:***@h:6379/0'),
        ('postgresql://u://secret@h/db', 'postgresql://u:***@h/db'),
        ('postgresql://u@x:secret@h/db', 'postgresql://u@x:***@h/db'),
        ('u:secret@h/db', 'u:***@h/db'),
        ('postgresql:///db?user=u&password=secret&host=/run', 'postgresql:///db?user=u&password=***&host=/run'),
        ('postgresql://h/db?SSLPassword=secret', 'postgresql://h/db?SSLPassword=***'),
        ('postgresql://u@h/db', 'postgresql://u@h/db'),
        ('postgresql://h:5432/db', 'postgresql://h:5432/db'),
        ('sqlite:///a/b.db', 'sqlite:///a/b.db'),
        ('memory://', 'memory://'),
        ('', ''),
    ],
)
def test_a_password_is_masked(url: str, masked: str) -> None:
    """The password goes and what locates the store stays."""
    assert shown_url(url) == masked


@given(user=WORDS.filter(lambda u: 'SECRET' not in u), password=WORDS.map(lambda p: f'SECRET{p}SECRET'))
def test_no_password_survives(user: str, password: str) -> None:
    """However malformed the user and the password, quoted or not, nothing of the password is shown."""
    assert 'SECRET' not in shown_url(f'postgresql://{user}:{password}@h/db')


def test_value_and_type() -> None:
    """A value is shown with its type, so that '5' and 5 differ in a message."""
    assert shown(5) == '5 (int)'
    assert shown('5') == "'5' (str)"


@pytest.mark.parametrize('value', ['x' * 10_000, list(range(10_000)), {n: n for n in range(10_000)}, b'x' * 10_000, [[[[[[]]]]]]])
def test_a_long_value_is_cut(value: object) -> None:
    """A message stays readable whatever the value."""
    assert len(shown(value)) < 200


def test_a_value_that_cannot_be_shown() -> None:
    """A value without a usable repr gives its type alone."""
    assert shown(10**5000) == '<not printable> (int)'
