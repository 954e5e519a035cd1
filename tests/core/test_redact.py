"""Values in messages."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobsync._core.redact import redact_url, safe_repr

WORDS = st.text(st.characters(exclude_categories=['Cs']), min_size=1)


@pytest.mark.parametrize(
    ('url', 'masked'),
    [
        ('postgresql://u:secret@h:5432/db', 'postgresql://u:***@h:5432/db'),
        ('postgresql+psycopg://u:p@h/db', 'postgresql+psycopg://u:***@h/db'),
        ('redis://:secret@h:6379/0', 'redis://:***@h:6379/0'),
        ('postgresql://u@h/db', 'postgresql://u@h/db'),
        ('postgresql://h:5432/db', 'postgresql://h:5432/db'),
        ('etcd://u:a:b%40@[::1]:2379,h2', 'etcd://u:***@[::1]:2379,h2'),
        ('postgresql:///db?user=u&password=secret&host=/run', 'postgresql:///db?***'),
        ('sqlite:///a/b.db', 'sqlite:///a/b.db'),
        ('memory://', 'memory://'),
        ('e.db', 'e.db'),
        ('../data/jobs.sqlite3', '../data/jobs.sqlite3'),
        ('sqlite:e.db', 'sqlite:e.db'),
        ('', ''),
        (' \n', ' \n'),
    ],
)
def test_a_password_is_masked(url: str, masked: str) -> None:
    """The password goes and what locates the store stays."""
    assert redact_url(url) == masked


@pytest.mark.parametrize(
    ('url', 'masked'),
    [
        ('postgresql://u:se@c/r?e#t@h/db', 'postgresql://***'),
        ('postgresql://u:pw/secret@host/db', 'postgresql://***'),
        ('postgresql://u:12/secret@host/db', 'postgresql://***'),
        ('postgresql://u:12?secret@host/db', 'postgresql://***'),
        ('postgresql://u:secret', 'postgresql://***'),
        ('postgresql://u://secret@h/db', 'postgresql://***'),
        ('postgresql://u@x:secret@h/db', 'postgresql://***'),
        ('u:secret@h/db', '***'),
        ('host=h user=u password=secret', '***'),
        ('u:secret.db', '***'),
        ('sqlite:secret', '***'),
        ('sqlite:u:secret.db', '***'),
        ('secret', '***'),
    ],
)
def test_nothing_of_a_malformed_url_is_shown(url: str, masked: str) -> None:
    """Whatever is not a URL in good order shows its scheme at most."""
    assert redact_url(url) == masked


@given(user=WORDS.filter(lambda u: 'SECRET' not in u), password=WORDS.map(lambda p: f'{p}SECRET{p}'))
@pytest.mark.parametrize('form', ['{}:{}@h/db', '{}:{}', '{}:{}/db', '//{}:{}@h', 'h?user={}&password={}'])
def test_no_password_survives(form: str, user: str, password: str) -> None:
    """However malformed the user and the password, quoted or not, nothing of the password is shown."""
    # Without an @ a password may look like the path after a port, or a host.
    assume('@' in form or '?' in form or not re.fullmatch(r'(.*:)?[0-9]{0,5}[/?].*', password))
    assert 'SECRET' not in redact_url(f'postgresql://{form.format(user, password)}')


def test_value_and_type() -> None:
    """A value is shown with its type, so that '5' and 5 differ in a message."""
    assert safe_repr(5) == '5 (int)'
    assert safe_repr('5') == "'5' (str)"


@pytest.mark.parametrize('form', ['{}', '{} ', ' {}', 'backend={}', '{}' + 'x' * 1000])
def test_a_url_in_place_of_something_else(form: str) -> None:
    """Its password is not shown, wherever in the value the URL is. A text without a login is shown as it is."""
    url = form.format('postgresql://ann:SECRET@db-1.example.com/jobs')
    for value in (url, url.encode(), [url], {'url': url}, ((url, 5),), {url}):
        assert 'SECRET' not in safe_repr(value)
    assert safe_repr(['https://a.example/x?y=1', 'ann@desk', b'a']) == "['https://a.example/x?y=1', 'ann@desk', b'a'] (list)"


@pytest.mark.parametrize('value', ['x' * 10_000, list(range(10_000)), {n: n for n in range(10_000)}, b'x' * 10_000, [[[[[[]]]]]]])
def test_a_long_value_is_cut(value: object) -> None:
    """A message stays readable whatever the value."""
    assert len(safe_repr(value)) < 200


def test_a_value_that_cannot_be_shown() -> None:
    """A value without a usable repr gives its type alone."""
    assert safe_repr(10**5000) == '<not printable> (int)'
