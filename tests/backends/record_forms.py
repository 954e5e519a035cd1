"""The form in which each store keeps its records: names of keys, tables and fields, and what kind of value each has.

``python -m tests.backends.record_forms`` writes them down anew.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import redis
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.redis import RedisHarness
from tests.support.harnesses.sqlite import SqliteHarness
from tests.support.servers import EtcdServer, PostgresServer, RedisServer

from jobsync.backend import Eviction, Member, Pin, Settings, TokenGroup
from jobsync.backends.etcd.driver import etcd3
from jobsync.testing import Harness, Namespace

__all__ = ['RECORDED', 'form_of_etcd', 'form_of_postgresql', 'form_of_redis', 'form_of_sqlite', 'recorded']

RECORDED = Path(__file__).parent / 'schemas' / 'present.json'
SETTINGS = Settings(24, 'xxh3')

_SEALED, _SEAL = re.compile(rb'[0-9a-f]{40}.', re.DOTALL), 40
_NUMBER = re.compile(rb'-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?')
_VOLATILE = (
    (re.compile(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:\d\d)?)?'), 'TIME'),
    (re.compile(r'\d{4}-\d\d-\d\d'), 'DATE'),
    (re.compile(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|(?<![0-9a-z])[0-9a-f]{8,}|\d+(\.\d+)?'), 'N'),
)
"""What differs between two runs, each of which replaces what follows it."""

_SQLITE_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'sync%' ORDER BY 1"
_SQLITE = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY 1"
_POSTGRESQL_TABLES = (
    'SELECT relname FROM pg_class WHERE relkind = $$r$$ AND relnamespace = current_schema()::regnamespace ORDER BY 1'
)
_POSTGRESQL = {
    'columns': 'SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns '
    'WHERE table_schema = current_schema() ORDER BY 1, 2',
    'conditions': 'SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint '
    "WHERE contype <> 'n' AND connamespace = current_schema()::regnamespace ORDER BY 1, 2",
    'indexes': 'SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1',
    'triggers': 'SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN '
    '(SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace) ORDER BY 1',
    'functions': "SELECT proname, regexp_replace(prosrc, '\\s+', ' ', 'g') FROM pg_proc "
    'WHERE pronamespace = current_schema()::regnamespace ORDER BY 1',
    'options': "SELECT relname, array_to_string(reloptions, ', ') FROM pg_class "
    'WHERE reloptions IS NOT NULL AND relnamespace = current_schema()::regnamespace ORDER BY 1',
}


def form_of_sqlite(harness: SqliteHarness) -> Any:
    """The tables as they were made, and the form of the rows that a namespace in use has."""
    fill(harness)
    tables = [str(name) for (name,) in harness.query(_SQLITE_TABLES)]
    rows = {}
    for table in tables:
        names = [str(row[1]) for row in harness.query(f'PRAGMA table_info({table})')]
        rows[table] = [dict(zip(names, map(_form, row), strict=True)) for row in harness.query(f'SELECT * FROM {table}')]
    return {
        'made': {str(name): ' '.join(str(sql).split()) for name, sql in harness.query(_SQLITE)},
        'rows': {table: _unique(found) for table, found in rows.items()},
    }


def form_of_postgresql(harness: PostgresqlHarness) -> Any:
    """Columns, conditions, indexes, triggers and functions, and the form of the rows that a namespace in use has."""
    fill(harness)
    made = {
        kind: [[part.replace(f'{harness.schema}.', '') for part in row] for row in harness.query(query)]
        for kind, query in _POSTGRESQL.items()
    }
    rows = {}
    for (table,) in harness.query(_POSTGRESQL_TABLES):
        found = [json.loads(row[0]) for row in harness.query(f'SELECT row_to_json(t) FROM {table} t')]
        rows[table] = _unique(map(_form, found))
    return {'made': made, 'rows': rows}


def form_of_redis(harness: RedisHarness) -> Any:
    """Each key with its type, and the form of what it has."""
    fill(harness)
    found: dict[str, Any] = {}
    with closing(redis.Redis.from_url(harness.url.partition('?')[0])) as client:
        for key in sorted(client.scan_iter()):
            kind = _text(client.type(key))
            match kind:
                case 'hash':
                    content: Any = {_text(name): _form(value) for name, value in sorted(client.hgetall(key).items())}
                case 'zset':
                    content = _unique(_form(member) for member in client.zrange(key, 0, -1))
                case 'list':
                    content = _unique(map(_form, client.lrange(key, 0, -1)))
                case 'set':
                    content = _unique(map(_form, client.smembers(key)))
                case _:
                    content = _form(client.get(key))
            found[_text(key)] = [kind, content]
    return found


def form_of_etcd(harness: EtcdHarness) -> Any:
    """The form of each key, and of its value."""
    fill(harness)
    found: dict[str, list[Any]] = {}
    client = etcd3.client(port=int(harness.url.rpartition(':')[2].strip('/')))
    with closing(client):
        for value, about in client.get_all():
            found.setdefault(_text(about.key), []).append(_form(value))
    return {key: _unique(forms) for key, forms in sorted(found.items())}


def fill(harness: Harness) -> None:
    """Have the store keep at least one record of each kind, and some that were replaced or removed."""
    namespace = Namespace(harness.connect(), SETTINGS)
    backend = namespace.backend
    former = namespace.leader('former')
    namespace.commit(former, TokenGroup(range(24), 'former'), members={'former': Member(former.incarnation, 15.0)}, moved=24)
    namespace.renew_timeline()
    leader = namespace.leader('a')
    busy = namespace.join('b', weight=2.0, host='h', pid=7, longest_timeout_sec=30.0, settings='{"a": 1}')
    dead, gone = namespace.join('dead'), namespace.join('gone')
    pins = (
        Pin(25, 'p', 'a', 'b', pattern='a%'),
        Pin(26, 'f', 'b', pattern='b%', group='feeds'),
        Pin(27, 'q', None, home='b'),
        Pin(28, 'r', 'a'),
    )
    members = {ref.name: Member(ref.incarnation, 15.0) for ref in (leader, busy, dead)}
    groups = TokenGroup(range(9), 'a', 'b', 'b'), TokenGroup(range(9, 16), 'b'), TokenGroup(range(16, 20), 'dead')
    namespace.commit(leader, *groups, pins=pins, members=members, moved=24, affected=frozenset('ab'))
    namespace.beat(leader, namespace.revision, {1, 2})
    namespace.lock('p', 'q', reason='r', expires_in=dt.timedelta(days=1))
    namespace.lock('f', group='feeds', cost=2.0)
    namespace.attempt(dead, 'x', 'y')
    namespace.attempt(leader, 'v')
    namespace.claim(leader, 'p', 'z')
    namespace.audit('a', 'p')
    backend.set_weight(busy, 0.0, stalled=True)
    backend.deregister(gone, False)
    eviction = Eviction(dead, namespace.node('dead').heartbeat)
    freed = TokenGroup(range(16, 18), 'a'), TokenGroup(range(18, 20), None, None, 'dead')
    namespace.commit(leader, *freed, evictions=(eviction,), unpinned=frozenset({28}), members={'dead': None}, moved=2)


def recorded() -> Any:
    """What was written down, by the kind of the store."""
    return json.loads(RECORDED.read_text())


def _form(value: object) -> Any:
    """Return what kind of value this is; of JSON, whatever it is packed in, the fields with theirs."""
    match value:
        case None | bool():
            return str(value)
        case int() | float():
            return 'number'
        case dict():
            return {_text(str(name)): _form(each) for name, each in value.items()}
        case list() | tuple():
            forms = list(map(_form, value))
            are_records = all(isinstance(form, (dict, list)) for form in forms)
            return _unique(forms) if are_records or len(set(map(str, forms))) == 1 else forms  # else they are fields, in order
        case bytes():
            return _form_of_bytes(value)
        case _:
            return _form_of_bytes(str(value).encode())


def _form_of_bytes(raw: bytes) -> Any:
    if _SEALED.match(raw):
        return {'sealed': _form_of_bytes(raw[_SEAL:])}
    if raw[:1] == b'x':
        with contextlib.suppress(zlib.error):
            return {'zlib': _form_of_bytes(zlib.decompress(raw))}
    if _NUMBER.fullmatch(raw):
        return 'N'  # an id may happen to have digits alone
    if raw[:1] in (b'{', b'['):
        with contextlib.suppress(ValueError):
            return _form(json.loads(raw))
        head, end, rest = min(raw.partition(b'\n'), raw.partition(b'\0'), key=lambda parts: len(parts[0]))
        if end:
            return {'head': _form_of_bytes(head), f'after {end!r}': _form_of_bytes(rest)}
    return _text(raw)


def _text(raw: str | bytes) -> str:
    """Return a text without what differs between two runs: times, ids and numbers."""
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        return 'bytes'
    if not text.replace('\0', '').isprintable():
        return 'bytes'
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return text


def _unique(forms: Iterable[Any]) -> list[Any]:
    return [json.loads(each) for each in sorted({json.dumps(form, sort_keys=True) for form in forms})]


@contextlib.contextmanager
def _sqlite() -> Iterator[SqliteHarness]:
    with tempfile.TemporaryDirectory() as folder, closing(SqliteHarness(Path(folder))) as harness:
        yield harness


def _main() -> None:
    with _sqlite() as file, closing(PostgresServer()) as postgres, closing(RedisServer()) as keys, closing(EtcdServer()) as etcd:
        forms = {
            'sqlite': form_of_sqlite(file),
            'postgresql': form_of_postgresql(PostgresqlHarness(postgres)),
            'redis': form_of_redis(RedisHarness(keys)),
            'etcd': form_of_etcd(EtcdHarness(etcd)),
        }
    RECORDED.write_text(json.dumps(forms, indent=1, ensure_ascii=False, sort_keys=True) + '\n')


if __name__ == '__main__':
    _main()
