"""Ids, keys and tokens."""

from __future__ import annotations

import enum
import hashlib
import numbers
import uuid
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync._core.hashing import HASH_FUNCTIONS, task_key, tokenizer
from jobsync.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=['Cs']))


@pytest.mark.parametrize(
    ('function', 'key', 'token'),
    [
        ('xxh3', '', 0x2D06800538D394C2 % 10_000),  # XXH3_64bits, seed 0, as published
        ('xxh3', 'a', 0xE6C632B61E964E1F % 10_000),
        ('xxh3', 'abc', 0x78AF5F94892F3950 % 10_000),
        ('md5', '', 0xD41D8CD98F00B204E9800998ECF8427E % 10_000),  # RFC 1321
        ('md5', 'abc', 0x900150983CD24FB0D6963F7D28E17F72 % 10_000),  # RFC 1321
        ('sha256', 'abc', 0xBA7816BF8F01CFEA % 10_000),  # FIPS 180-2
        ('double_sha256', 'hello', 0x9595C9DF90075148 % 10_000),  # Bitcoin's hash256 example
        # What jobsync 1.3.14 gives, so that its clusters' placement can be kept.
        ('md5', '12345', 7915),
        ('sha256', '12345', 4506),
        ('double_sha256', '12345', 9451),
        ('md5', "('a', 1)", 1945),
    ],
)
def test_golden_values(function: str, key: str, token: int) -> None:
    """Published test vectors give the tokens they must, in this release and every later one."""
    assert tokenizer(function, 10_000)(key) == token


@given(key=TEXT, total=st.integers(1, 2**40))
def test_md5_is_the_whole_digest(key: str, total: int) -> None:
    """md5 takes all 128 bits, big-endian, modulo the pool."""
    assert tokenizer('md5', total)(key) == int(hashlib.md5(key.encode()).hexdigest(), 16) % total  # noqa: S324 - to compare with


@given(key=TEXT, total=st.integers(1, 2**40))
def test_sha256_is_the_first_eight_bytes(key: str, total: int) -> None:
    """sha256 and double_sha256 take the first 16 hexadecimal digits, the second of them of the raw digest's digest."""
    once = hashlib.sha256(key.encode())
    assert tokenizer('sha256', total)(key) == int(once.hexdigest()[:16], 16) % total
    assert tokenizer('double_sha256', total)(key) == int(hashlib.sha256(once.digest()).hexdigest()[:16], 16) % total


@pytest.mark.parametrize('function', HASH_FUNCTIONS)
def test_spread(function: str) -> None:
    """Ids that differ in their last digits only reach every token about equally often (within six standard deviations)."""
    token = tokenizer(function, 100)
    counts = Counter(token(task_key(n)) for n in range(20_000))
    assert set(counts) == set(range(100))
    assert all(abs(n - 200) < 6 * 200**0.5 for n in counts.values())


@pytest.mark.parametrize('function', HASH_FUNCTIONS)
def test_a_pool_of_one(function: str) -> None:
    """With one token every task has token 0."""
    assert {tokenizer(function, 1)(key) for key in ('', 'a', 'é', '日本')} == {0}


def test_text_is_hashed_as_utf8() -> None:
    """A key beyond ASCII is hashed by its UTF-8 bytes, a newline among them."""
    expected = int(hashlib.md5('é\n日本'.encode()).hexdigest(), 16) % 997  # noqa: S324 - to compare with
    assert tokenizer('md5', 997)('é\n日本') == expected


@pytest.mark.parametrize(
    ('task_id', 'key'),
    [
        (7, '7'),
        (-7, '-7'),
        ('7', '7'),
        ('a b\tc\n', 'a b\tc\n'),
        ('日本', '日本'),
        (('a', 1), "('a', 1)"),
        (Decimal('7.50'), '7.50'),
        (Decimal(7), '7'),
        (uuid.UUID(int=1), '00000000-0000-0000-0000-000000000001'),
        (enum.Enum('Colour', 'RED').RED, 'Colour.RED'),  # type: ignore[attr-defined]
    ],
)
def test_key_is_the_text_of_the_id(task_id: object, key: str) -> None:
    """Any hashable id is known by its text."""
    assert task_key(task_id) == key


class AnyCase(str):
    """A text that compares without regard to case, as the names of users and headers do, and encodes in its own way."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())

    def __str__(self) -> str:
        return self

    def encode(self, *_: object) -> bytes:
        """Return another encoding than UTF-8."""
        return b'encoded'


def test_a_text_of_a_class_is_known_by_its_characters() -> None:
    """Its class has no say in which task it is: a node with a plain text must come to the same token and pin."""
    key = task_key(AnyCase('Task-1'))
    assert type(key) is str
    assert key == 'Task-1'
    assert key != 'task-1'
    assert tokenizer('xxh3', 10_000)(key) == tokenizer('xxh3', 10_000)('Task-1')


class Speaking:
    """Hashable, with a text of its own."""

    def __str__(self) -> str:
        return 'speaking'


class Mute:
    """Hashable, with the text Python gives an object: its address."""


class Broken:
    """Hashable, and fails to give a text."""

    def __repr__(self) -> str:
        raise RuntimeError('no')


class Tags(frozenset[str]):
    """A set of a class of its own."""


class SortedTags(frozenset[str]):
    """A set whose text is sorted."""

    def __repr__(self) -> str:
        return f'SortedTags({sorted(self)})'


@dataclass(frozen=True)
class Order:
    """A value that can be hashed, with a set in it."""

    number: int
    tags: set[str] = field(hash=False)


@attrs.frozen
class Tagged:
    """A class made by attrs, with a set in it."""

    tags: Tags


class NamedOrder(Order):
    """A value that can be hashed, with a text of its own."""

    def __str__(self) -> str:
        return f'order {self.number}'


class ScalarFloat:
    """A float that is no ``float``, as those of numpy with 32 bits are."""


numbers.Real.register(ScalarFloat)
ScalarBool = type('bool_', (), {'__doc__': 'A bool that is no ``bool``, as those of numpy are.'})


class Missing:
    """A missing value, as ``NA`` of pandas is one: equal to nothing, and it has no truth."""

    __hash__ = object.__hash__

    def __ne__(self, other: object) -> Missing:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError('ambiguous')


MISSING = Missing()


def test_an_object_with_a_text_is_an_id() -> None:
    """An object that says how it is called may be an id."""
    assert task_key(Speaking()) == 'speaking'


@pytest.mark.parametrize(
    ('task_id', 'message'),
    [
        ([1, 2], r'\[1, 2\] \(list\).*hashable'),
        ({'a': 1}, r"\{'a': 1\} \(dict\).*hashable"),
        (([],), r'\(\[\],\) \(tuple\).*hashable'),
        (Mute(), r'\(Mute\).*address'),
        (Broken(), r'\(Broken\).*text'),
        (10**5000, r'\(int\)'),
        ('a\ud800', r'ud800.*surrogate'),
        ('a\0b', r'x00.*NUL'),
        ([0] * 10_000, r'\[0, 0, 0, 0, \.\.\.\] \(list\)'),
        (None, r'None \(NoneType\).*not None'),
        (True, r'True \(bool\).*a bool'),
        (7.0, r'7\.0 \(float\).*a float'),
        (ScalarFloat(), r'\(ScalarFloat\).*a float'),
        (ScalarBool(), r'\(bool_\).*a bool'),
        (Decimal('nan'), r'\(Decimal\).*must be a string'),
        (MISSING, r'\(Missing\).*ambiguous'),
        (test_an_object_with_a_text_is_an_id, r'\(function\).*address'),
        (iter(lambda: 1, 2), r'\(callable_iterator\).*address'),
        (('a', Mute()), r'\(tuple\).*address'),
        (frozenset('ab'), r'\(frozenset\).*sorted tuple'),
        (('a', frozenset('bc')), r'\(tuple\).*sorted tuple'),
        (Tags('ab'), r'\(Tags\).*sorted tuple'),
        (Order(1, {'a', 'b'}), r'\(Order\).*sorted tuple'),
        ((Tagged(Tags('ab')),), r'\(tuple\).*sorted tuple'),
        (b'a', r"b'a' \(bytes\).*bytes"),
        (memoryview(b'a'), r'\(memoryview\).*bytes'),
        ('', r"'' \(str\): must not be empty"),
    ],
    ids=[
        *('list', 'dict', 'tuple of a list', 'address', 'no text', 'too many digits', 'surrogate', 'NUL', 'long'),
        *('None', 'bool', 'float', 'scalar float', 'scalar bool', 'decimal NaN', 'missing value'),
        *(
            'function',
            'iterator',
            'address in a tuple',
            'set',
            'set in a tuple',
            'set of a class',
            'set in a dataclass',
            'set in attrs in a tuple',
            'bytes',
            'memory',
            'empty',
        ),
    ],
)
def test_an_id_that_cannot_serve(task_id: object, message: str) -> None:
    """An id that cannot be hashed, told apart or recorded is refused by value and type, at once."""
    with pytest.raises(ConfigError, match=message):
        task_key(task_id)


@pytest.mark.parametrize(
    'task_id',
    [
        PurePosixPath('/fault at 0x7f00deadbeef'),
        ('fault at 0x7f00deadbeef', 3),
        frozenset[int](),
        frozenset({1}),
        Order(1, {'a'}),
        SortedTags('ab'),
        NamedOrder(1, {'a', 'b'}),
        PurePosixPath("/{'a', 'b'}"),
    ],
    ids=['path', 'tuple', 'empty set', 'set of one', 'set of one in a dataclass', 'sorted set', 'own text', 'path with braces'],
)
def test_a_text_may_name_an_address(task_id: object) -> None:
    """An id that names an address is one as any other, and so is one whose text shows no set in the order of its hashes."""
    assert task_key(task_id) == str(task_id)


class Lazy:
    """An object whose class reads from a database when it is asked for a value."""

    def __init__(self, reads: list[str]) -> None:
        self._reads, self.me = reads, self

    def __str__(self) -> str:
        return 'lazy {1, 2}'

    @property
    def tags(self) -> set[str]:
        """What would be read."""
        self._reads.append('tags')
        raise LookupError('detached')

    def __getattr__(self, name: str) -> object:
        self._reads.append(name)
        raise LookupError(name)


def test_the_search_for_sets_calls_no_code_of_a_class() -> None:
    """No property and no ``__getattr__``, which may do I/O; and it ends where values refer to each other, or are many."""
    reads: list[str] = []
    lazy = Lazy(reads)
    assert task_key(lazy) == task_key((lazy,)[0]) == 'lazy {1, 2}'
    assert reads == []
    crowd = NamedOrder(1, {'a', 'b'})
    vars(crowd)['rows'] = [NamedOrder(number, set()) for number in range(100_000)]
    assert task_key(crowd) == 'order 1'


@pytest.mark.parametrize('function', HASH_FUNCTIONS)
def test_a_surrogate_has_no_token(function: str) -> None:
    """A key that did not come from ``task_key`` and has no UTF-8 form is refused, not hashed some other way."""
    with pytest.raises(ConfigError, match='surrogate'):
        tokenizer(function, 10)('\udcff')


@pytest.mark.parametrize('function', ['sha1', 'XXH3', '', None, 3, ['md5']])
def test_unknown_hash_function(function: object) -> None:
    """An unknown hash function is named, with those there are."""
    with pytest.raises(ConfigError, match=r'hash_function.*one of xxh3, md5, sha256, double_sha256') as caught:
        tokenizer(function, 10)  # type: ignore[arg-type]
    assert repr(function) in str(caught.value)


@pytest.mark.parametrize('total', [0, -1, True, 1.5, '10', None])
def test_impossible_pool(total: object) -> None:
    """The size of the pool is a positive integer."""
    with pytest.raises(ConfigError, match=r'total_tokens.*at least 1'):
        tokenizer('md5', total)  # type: ignore[arg-type]
