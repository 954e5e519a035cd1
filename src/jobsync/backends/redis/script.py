"""The Lua scripts, and how they are called.

A script's header is its contract, and is what is sent: the names under ``KEYS`` and ``ARGV`` become the fields of two tables,
``key`` and ``given``, that the script uses, and the names by which it is called here. They cannot differ from the comment.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from importlib import resources

import attrs

from jobsync.backends.redis.keys import RedisKeys

__all__ = ['Script', 'script']

STANDING = ('durable', 'channel')
"""Arguments of every script, before its own."""

_LIST = r'^-- {}: ((?:[^\n]*,\n-- +)*[^\n]*)$'


@attrs.frozen
class Script:
    """A script with what goes before it."""

    name: str
    keys: tuple[str, ...]
    """Kinds of records, as ``RedisKeys.name`` takes them."""
    arguments: tuple[str, ...]
    source: str = attrs.field(repr=False)
    digest: str = attrs.field(repr=False)

    def words(
        self, keys: RedisKeys, standing: tuple[str, str], named: dict[str, object], rest: Sequence[object]
    ) -> tuple[object, ...]:
        """What follows ``EVALSHA digest``."""
        assert named.keys() == set(self.arguments), (self.name, named.keys() ^ set(self.arguments))
        names = map(keys.name, self.keys)
        return len(self.keys), *names, *standing, *(_sent(named[name]) for name in self.arguments), *rest


def _sent(value: object) -> object:
    return ('0', '1')[value] if isinstance(value, bool) else value


@functools.cache
def script(name: str) -> Script:
    """The script in ``scripts/name.lua``."""
    folder = resources.files(__package__) / 'scripts'
    own, common = (folder.joinpath(f'{each}.lua').read_text(encoding='utf-8') for each in (name, 'common'))
    keys, arguments = _names('KEYS', own), _names('ARGV', own)
    count = len(STANDING) + len(arguments)
    head = [
        f'local key = {{{_fields("KEYS", keys)}}}',
        f'local given = {{{_fields("ARGV", STANDING + arguments)}}}',
        f'local rest = setmetatable({{count = #ARGV - {count}}}, {{__call = function(_, i) return ARGV[{count} + i] end}})',
    ]
    source = '\n'.join([*head, common, own])
    return Script(name, keys, arguments, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _names(what: str, text: str) -> tuple[str, ...]:
    found = re.search(_LIST.format(what), text, re.MULTILINE)
    assert found is not None, f'no {what} in the header'
    names = re.findall(r'\w+', found[1].replace('\n--', ''))
    return () if names == ['none'] else tuple(names)


def _fields(table: str, names: Sequence[str]) -> str:
    return ', '.join(f'{name} = {table}[{number}]' for number, name in enumerate(names, 1))
