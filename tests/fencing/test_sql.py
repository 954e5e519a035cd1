"""SQL: a statement with the condition writes no row for a former owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from tests.fencing.late import tell_of_a_late_write
from tests.fencing.places import RESULTS, SQLPlace, engine_of, refused_of_many

from jobsync import ConfigError, StaleFence, UnsupportedOperation
from jobsync.fencing import check_written, fence_allows, fence_sql

KINDS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    'sqlite': lambda request: f'sqlite:///{request.getfixturevalue("tmp_path")}/effects.db',
    'postgresql': lambda request: request.getfixturevalue('newest_postgres').new_schema(),
}


@pytest.fixture(params=['sqlite', pytest.param('postgresql', marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database."""
    return KINDS[request.param](request)


@pytest.fixture
def place(url: str) -> SQLPlace:
    """A table with a row for task x."""
    place = SQLPlace(url)
    place.prepare('x')
    return place


def test_sqlalchemy(place: SQLPlace) -> None:
    """Equal and higher fences are accepted, a lower one is refused, and changes nothing."""
    place.write('x', 'one', 7)
    place.write('x', 'two', 7)
    place.write('x', 'three', 9)
    with pytest.raises(StaleFence, match='the result of x was not written under fence 8: a higher one has written since'):
        place.write('x', 'four', 8)
    assert place.read('x') == 'three'


def test_a_mapped_attribute(url: str) -> None:
    """The condition takes the attribute of a mapped class, too."""

    class Base(DeclarativeBase):
        pass

    class Result(Base):
        __tablename__ = 'mapped'
        id: Mapped[str] = mapped_column(primary_key=True)
        fence: Mapped[int | None]

    engine = engine_of(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Result(id='x', fence=5))
        session.commit()
        for fence, count in ((4, 0), (5, 1), (6, 1), (5, 0)):
            changed = sa.update(Result).where(Result.id == 'x', fence_allows(Result.fence, fence)).values(fence=fence)
            assert session.execute(changed, execution_options={'synchronize_session': False}).rowcount == count  # type: ignore[attr-defined]
            session.commit()


def test_an_insert_that_may_find_a_row(url: str) -> None:
    """With ``ON CONFLICT`` and the condition the first write needs no row to be there."""
    engine = engine_of(url)
    RESULTS.metadata.create_all(engine)
    for fence, count in ((5, 1), (4, 0), (5, 1), (6, 1)):
        condition, values = fence_sql('results.fence', fence, 'named')
        insert = "INSERT INTO results (id, value, fence) VALUES ('x', 'v', :fence)"
        statement = f'{insert} ON CONFLICT (id) DO UPDATE SET value = excluded.value, fence = excluded.fence WHERE {condition}'
        with engine.begin() as connection:
            assert connection.execute(sa.text(statement), values).rowcount == count


def test_an_insert_of_sqlalchemy(url: str) -> None:
    """The same with ``insert``, whose rows SQLAlchemy counts if it is told to; the error of a count that is not there says so."""
    engine = engine_of(url)
    RESULTS.metadata.create_all(engine)
    insert = postgresql.insert if engine.name == 'postgresql' else sqlite.insert
    for fence, count in ((5, 1), (4, 0), (5, 1), (6, 1)):
        put = insert(RESULTS).values(id='x', fence=fence)
        new = {'fence': put.excluded.fence}
        put = put.on_conflict_do_update(index_elements=['id'], set_=new, where=fence_allows(RESULTS.c.fence, fence))
        with engine.begin() as connection:
            assert connection.execute(put.execution_options(preserve_rowcount=True)).rowcount == count
    with pytest.raises(UnsupportedOperation, match='preserve_rowcount=True'):
        check_written(-1, 7)


def test_writers_at_once(place: SQLPlace) -> None:
    """Of many writers at once the highest fence is the last to be accepted, whoever comes when."""
    refused = refused_of_many(lambda fence: place.write('x', str(fence), fence))
    assert place.read('x') == '19'
    assert 19 not in refused


def accepted(execute: Callable[[str, Any], Any], style: Any, mark: Callable[[str], str]) -> list[int]:
    """Which fences an UPDATE in this paramstyle accepts, one after the other."""
    found = []
    for fence in (7, 6, 7, 8):
        condition, values = fence_sql('fence', fence, style)
        own = {'new': fence} if isinstance(values, dict) else [fence]
        parameters = own | values if isinstance(own, dict) and isinstance(values, dict) else [*own, *values]
        done = execute(f'UPDATE results SET fence = {mark("new")} WHERE {condition}', parameters)
        if done.rowcount:
            found.append(fence)
    return found


@pytest.mark.parametrize(('style', 'mark'), [('qmark', lambda _: '?'), ('named', ':{}'.format)])
def test_sqlite3(style: str, mark: Callable[[str], str]) -> None:
    """The text and its parameters are what Python's own driver of SQLite takes."""
    with closing(sqlite3.connect(':memory:')) as connection:
        connection.execute('CREATE TABLE results (fence INTEGER)')
        connection.execute('INSERT INTO results VALUES (NULL)')
        assert accepted(connection.execute, style, mark) == [7, 7, 8]


@pytest.fixture
def cursor(newest_postgres: Any) -> Iterator[psycopg.Cursor[Any]]:
    """Of psycopg, in an empty schema."""
    with psycopg.connect(newest_postgres.new_schema()) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.mark.postgres
@pytest.mark.parametrize(('style', 'mark'), [('format', lambda _: '%s'), ('pyformat', '%({})s'.format)])
def test_psycopg(cursor: psycopg.Cursor[Any], style: str, mark: Callable[[str], str]) -> None:
    """The text and its parameters are what psycopg takes."""
    cursor.execute('CREATE TABLE results (fence BIGINT)')
    cursor.execute('INSERT INTO results VALUES (NULL)')
    assert accepted(cursor.execute, style, mark) == [7, 7, 8]


def test_the_text() -> None:
    """Of every paramstyle, with names and positions as they are asked for."""
    assert fence_sql('r.fence', 7, 'format') == ('(r.fence IS NULL OR r.fence <= %s)', [7])
    assert fence_sql('fence', 7, 'numeric', position=3) == ('(fence IS NULL OR fence <= :3)', [7])
    assert fence_sql('fence', 7, 'named', name='least') == ('(fence IS NULL OR fence <= :least)', {'least': 7})
    assert fence_sql('fence', 7, 'pyformat') == ('(fence IS NULL OR fence <= %(fence)s)', {'fence': 7})
    assert fence_sql('fence', 7, 'qmark') == ('(fence IS NULL OR fence <= ?)', [7])


@pytest.mark.parametrize('fence', [None, '7', -1, 7.0, True, 2**53])
def test_what_is_no_fence(fence: Any) -> None:
    """It is refused before anything is written."""
    with pytest.raises(ConfigError, match=r'fence is .*: must be the number that job\.fence'):
        fence_sql('fence', fence, 'qmark')
    with pytest.raises(ConfigError, match=r'fence is .*: must be the number that job\.fence'):
        fence_allows(RESULTS.c.fence, fence)


def test_other_mistakes() -> None:
    """A paramstyle that there is not, and a driver that does not count."""
    with pytest.raises(ConfigError, match='paramstyle'):
        fence_sql('fence', 7, 'dollar')  # type: ignore[call-overload]
    with pytest.raises(UnsupportedOperation, match='does not count the rows'):
        check_written(-1, 7)
    with pytest.raises(UnsupportedOperation, match='does not count the rows'):
        check_written(None, 7)


def test_a_late_write(url: str, tmp_path: Path) -> None:
    """Of a process that was stopped until another owned its task."""
    tell_of_a_late_write(tmp_path, url)
