"""The Lua scripts, and how they are called.

A script's header is its contract, and this module reads it: the names under ``KEYS`` and ``ARGV`` become the fields of two
tables, ``key`` and ``given``, that the script uses, and the names by which the script is called. What it ``REQUIRES`` becomes its
first lines:

- ``namespace``: ``state`` is the state of the namespace; without one the script returns ``SchemaMismatch``;
- ``view``: the same for a script that writes nothing, and so serves a user who may not write;
- ``node``: ``node`` is the record of the run ``given.run``; unless exactly that run is joined, the script returns ``Evicted``;
- ``nothing``: the script begins by itself.

A script whose ``TIME`` is ``bulk`` may take ``bulk_timeout_sec``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources

import attrs

__all__ = ['Script', 'script']

ARGUMENTS_OF_ALL = ('durable', 'channel', 'schema')
"""Arguments of every script, before its own."""

# t=0  a node of version 1 opens the namespace, and is held up
# t=1  no node is registered, so one of version 2 brings the records to its format, and others of its version join
# t=2  the node of t=0 registers. Without the comparison it would write what the others cannot read, and might lead them
_NAMESPACE = """local state = enter({is_view})
if not state then return {{'SchemaMismatch'}} end
if (state.schema or given.schema) ~= given.schema then return {{'SchemaMismatch', state.schema}} end
check_state(state)"""
REQUIRED = {
    'nothing': '',
    'namespace': _NAMESPACE.format(is_view='false'),
    'view': _NAMESPACE.format(is_view='true'),
    'node': "local node = joined(given.name, given.run) if not node then return {'Evicted'} end",
}

_LIST = r'^-- {}: ((?:[^\n]*,\n-- +)*[^\n]*)$'


@attrs.frozen
class Script:
    """A script as it is sent."""

    name: str
    keys: tuple[str, ...]
    """Kinds of records, as ``RedisNamespace.key`` takes them."""
    arguments: tuple[str, ...]
    is_bulk: bool
    source: str = attrs.field(repr=False)
    digest: str = attrs.field(repr=False)

    def words(
        self, key: Callable[[str], str], of_all: tuple[str, str, str], named: dict[str, object], rest: Sequence[object]
    ) -> tuple[object, ...]:
        """Return the words after ``EVALSHA digest``."""
        assert len(named) == len(self.arguments), (self.name, named.keys() ^ set(self.arguments))
        return len(self.keys), *map(key, self.keys), *of_all, *(_sent(named[name]) for name in self.arguments), *rest


def _sent(value: object) -> object:
    return ('0', '1')[value] if isinstance(value, bool) else value


def script(name: str) -> Script:
    """Return the script in ``scripts/name.lua``."""
    return _scripts[name]


def _read() -> dict[str, Script]:
    """Return all scripts by name."""
    folder = resources.files(__package__) / 'scripts'
    texts = {path.name.removesuffix('.lua'): path.read_text(encoding='utf-8') for path in folder.iterdir()}
    common = texts.pop('common')
    return {name: _made(name, own, common) for name, own in texts.items()}


def _made(name: str, own: str, common: str) -> Script:
    keys, arguments = _names('KEYS', own), _names('ARGV', own)
    count = len(ARGUMENTS_OF_ALL) + len(arguments)
    head = [
        f'local key = {{{_fields("KEYS", keys)}}}',
        f'local given = {{{_fields("ARGV", ARGUMENTS_OF_ALL + arguments)}}}',
        f'local rest = setmetatable({{count = #ARGV - {count}}}, {{__call = function(_, i) return ARGV[{count} + i] end}})',
    ]
    source = '\n'.join([*head, common, *(REQUIRED[each] for each in _names('REQUIRES', own)), own])
    is_bulk = '\n-- TIME: bulk\n' in own
    return Script(name, keys, arguments, is_bulk, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _names(what: str, text: str) -> tuple[str, ...]:
    found = re.search(_LIST.format(what), text, re.MULTILINE)
    assert found is not None, f'no {what} in the header'
    names = re.findall(r'\w+', found[1].replace('\n--', ''))
    return () if names == ['none'] else tuple(names)


def _fields(table: str, names: Sequence[str]) -> str:
    return ', '.join(f'{name} = {table}[{number}]' for number, name in enumerate(names, 1))


# t=0  a worker starts, and reads each script at its first use
# t=1  a deploy replaces the installed files under it: a script read from now on is another version's
# t=2  the process has too many open files: a script is not read, and its call raises OSError
_scripts = _read()
