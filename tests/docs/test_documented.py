"""Nothing is left out: what can be set, called, raised or typed has its place in the pages."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points

import attrs
import click
import pytest
from docs._ext import facts
from tests.docs.pages import DOCS, written_by_hand

import jobsync
from jobsync import AsyncJob, CoordinationConfig, Job, Task, database, errors, fencing, hookspecs, plugins
from jobsync.backends.sql.postgresql.ddl import FUNCTIONS
from jobsync.backends.sql.schema import tables_for
from jobsync.cli.commands import cli
from jobsync.cli.group import GROUP
from jobsync.rows import CoordinationStatus

HANDWRITTEN = written_by_hand()


def reference(name: str) -> str:
    return (DOCS / 'reference' / f'{name}.md').read_text(encoding='utf-8')


def public(cls: type) -> list[str]:
    """Its own members and those it inherits."""
    return sorted({name for base in cls.__mro__[:-1] for name in vars(base) if not name.startswith('_')})


def commands(group: click.Group, path: str = 'jobsync') -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f'{path} {name}', command
        if isinstance(command, click.Group):
            yield from commands(command, f'{path} {name}')


def callables() -> Iterator[tuple[str, Callable[..., object]]]:
    """What a user calls: functions of public modules, and methods of public classes."""
    made_by_users = (Job, AsyncJob, Task)
    for cls in (*made_by_users, database.Connection, database.Rows):
        for name, member in vars(cls).items():
            if inspect.isfunction(member) and (not name.startswith('_') or (name == '__init__' and cls in made_by_users)):
                yield f'{cls.__name__}.{name}', member
    for module in (database, fencing, plugins):
        for name in module.__all__:
            if inspect.isfunction(member := getattr(module, name)):
                yield f'{module.__name__}.{name}', member


def arguments_of_job() -> dict[str, inspect.Parameter]:
    return {name: value for name, value in inspect.signature(Job).parameters.items() if name != 'self'}


def table_of_arguments() -> str:
    return reference('job').partition('## Arguments of Job')[2].partition('## Job')[0]


@pytest.mark.parametrize('field', facts.config_fields(), ids=lambda field: field.name)
def test_a_field_of_the_configuration(field: facts.FieldFacts) -> None:
    """The table of the reference has its meaning and what it may be, and some page says when to set it."""
    assert field.meaning
    assert field.allowed
    assert re.search(rf'`{field.name}\b|\b{field.name}=', HANDWRITTEN), f'no page mentions {field.name}'


def test_the_table_of_the_configuration_is_complete() -> None:
    """It is made from the class, field by field."""
    assert '{config-table}' in reference('config')
    assert [field.name for field in facts.config_fields()] == list(attrs.fields_dict(CoordinationConfig))


@pytest.mark.parametrize('name', errors.__all__)
def test_an_error(name: str) -> None:
    """It has a docstring, an entry in the reference, and, if users can meet it, advice on what to do."""
    assert inspect.getdoc(getattr(errors, name))
    place = 'jobsync' if name in jobsync.__all__ else 'jobsync.errors'
    assert f'autoexception:: {place}.{name}\n' in reference('errors')
    if name in jobsync.__all__ and name != 'JobsyncError':
        assert f'\n## {name}\n' in reference('errors')


@pytest.mark.parametrize('name', public(Job))
def test_a_member_of_job(name: str) -> None:
    """It has a docstring, which the reference shows, and a page of the guide that uses or names it."""
    assert inspect.getdoc(inspect.getattr_static(Job, name))
    assert '.. autoclass:: jobsync.Job\n   :members:\n' in reference('job')
    assert re.search(rf'\bjob\w*\.{name}\b|`{name}\b', HANDWRITTEN), f'no page mentions {name}'


@pytest.mark.parametrize(('name', 'function'), list(callables()), ids=lambda value: value if isinstance(value, str) else '')
def test_an_argument_of_what_a_user_calls(name: str, function: Callable[..., object]) -> None:
    """Its docstring, or that of its class, has a line for each argument."""
    holder = getattr(jobsync, name.partition('.')[0], None) if name.endswith('.__init__') else None
    arguments = f'{inspect.getdoc(function)}\n{holder and inspect.getdoc(holder)}'.partition('\nArgs:\n')[2]
    for parameter in inspect.signature(function).parameters:
        assert parameter == 'self' or re.search(rf'^ {{4,}}{parameter}: ', arguments, flags=re.MULTILINE), parameter


@pytest.mark.parametrize('name', arguments_of_job())
def test_an_argument_of_job(name: str) -> None:
    """It has a row in the reference, with the default that the code has."""
    default = arguments_of_job()[name].default
    shown = '' if default is inspect.Parameter.empty else f'`{default!r}`'
    assert f'\n| `{name}` | {shown} |' in table_of_arguments()


def test_no_argument_of_job_is_made_up() -> None:
    """The table of arguments has no row for one that there is not."""
    assert set(re.findall(r'^\| `(\w+)` \|', table_of_arguments(), flags=re.MULTILINE)) == set(arguments_of_job())


@pytest.mark.parametrize('name', sorted(set(jobsync.__all__) - set(errors.__all__)))
def test_a_public_name(name: str) -> None:
    """It has an entry in the reference."""
    entries = '\n'.join(page.read_text(encoding='utf-8') for page in (DOCS / 'reference').glob('*.md'))
    assert f'autoclass:: jobsync.{name}' in entries


@pytest.mark.parametrize('name', sorted(set(fencing.__all__) - set(errors.__all__)))
def test_a_guard(name: str) -> None:
    """It has a docstring, an entry in the reference, and a place in the guide."""
    assert inspect.getdoc(getattr(fencing, name))
    assert f'autofunction:: jobsync.fencing.{name}\n' in reference('fencing')
    assert name in (DOCS / 'guide' / 'fencing.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('name', [*public(Task), 'id', 'key', 'name'])
def test_an_attribute_of_task(name: str) -> None:
    """The reference names it."""
    assert f'`{name}`' in reference('job')


def test_every_command_is_in_the_reference() -> None:
    """The reference has the whole tree of commands, made from the code, and each command that comes by an entry point."""
    page = reference('cli')
    assert '.. click:: jobsync.cli.commands:cli\n   :prog: jobsync\n   :nested: full\n' in page
    ours = [entry for entry in entry_points(group=GROUP) if entry.dist is not None and entry.dist.name == 'jobsync']
    assert {entry.name for entry in ours} == {'bench', 'demo'}
    assert all(f'.. click:: {entry.value}\n   :prog: jobsync {entry.name}\n' in page for entry in ours)


@pytest.mark.parametrize(('path', 'command'), list(commands(cli)), ids=lambda value: value if isinstance(value, str) else '')
def test_a_command(path: str, command: click.Command) -> None:
    """It and each of its options say what they are for, and some page shows when to use it."""
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f'{path} {parameter.opts}'
    assert path in HANDWRITTEN, f'no page mentions {path}'


def test_the_hook() -> None:
    """The one hook of the plugin interface, and what it must return, are in the reference."""
    assert all(f'jobsync.hookspecs.{name}' in reference('backend') for name in ('jobsync_backend', 'BackendPlugin'))
    assert hookspecs.GROUP == 'jobsync'


def test_every_backend_is_in_the_table() -> None:
    """Each installed backend can be asked for what it declares, and some page tells how to run it."""
    assert '{backends-table}' in (DOCS / 'backends.md').read_text(encoding='utf-8')
    found = facts.backends()
    assert [backend.name for backend in found] == [plugin.name for plugin in plugins.installed()]
    for backend in found:
        assert f'{backend.schemes[0]}://' in HANDWRITTEN


def test_the_pages_use_the_projects_words() -> None:
    """None of those that mean something else elsewhere, but in the name of a command."""
    pages = HANDWRITTEN.replace('get-master-addr-by-name', '')
    assert re.findall(r'.*\b(?:master|shard|partition)s?\b.*', pages, flags=re.IGNORECASE) == []


@pytest.mark.parametrize('names', ['node', 'token', 'unowned', 'lock', 'claim', 'audit', 'rebalance'])
def test_the_columns_of_a_table(names: str) -> None:
    """The reference has a table's columns, and no other."""
    heading = ' and '.join(f'`sync_{name}`' for name in names.split())
    section = reference('database').partition(f'### {heading}\n')[2].partition('\n### ')[0]
    cells = re.findall(r'^\| (`[^|]*) \|', section, flags=re.MULTILINE) or [
        section.partition('The columns ')[2].partition(' mean ')[0]
    ]
    for name in names.split():
        columns = set(getattr(tables_for('sync_'), name).columns.keys())
        assert {column for cell in cells for column in re.findall(r'`(\w+)`', cell)} == columns


@pytest.mark.parametrize('name', database.__all__)
def test_a_function_for_statements(name: str) -> None:
    """The reference has an entry for each name of ``jobsync.database``."""
    assert re.search(rf'auto(function|class):: jobsync\.database\.{name}\n', reference('database'))


def test_what_a_cluster_leaves_in_a_database() -> None:
    """Who takes a cluster away is told of every table and function."""
    told = (DOCS / 'operate' / 'deploy.md').read_text(encoding='utf-8').partition('## Taking a cluster away')[2]
    names = {name.lower() for name in tables_for('any_').names()}
    assert set(re.findall(r'`([a-z_]+)`', told)) == {'appname', *names, *FUNCTIONS}


def test_the_keys_of_the_status() -> None:
    """The table has each key of ``get_coordination_status``, and no other."""
    table = reference('job').partition('### Keys of `get_coordination_status()`')[2].partition('###')[0]
    cells = [line.split('|')[1] for line in table.splitlines() if line.startswith('| `')]
    assert sorted(key for cell in cells for key in re.findall(r'`(\w+)`', cell)) == sorted(CoordinationStatus.__annotations__)


def public_modules() -> set[str]:
    """Return the modules in the first column of the page of what is public."""
    rows = re.findall(r'^\| (`jobsync[^|]*) \|', reference('public'), flags=re.MULTILINE)
    return {module for row in rows for module in re.findall(r'`([\w.]+)`', row)}


@pytest.mark.parametrize('module', sorted(public_modules()))
def test_a_public_module(module: str) -> None:
    """What the page lists can be imported."""
    importlib.import_module(module)


def test_an_entry_of_the_reference_is_of_a_public_module() -> None:
    """A class or function has its entry under the name by which a program imports it."""
    pages = ''.join(path.read_text(encoding='utf-8') for path in sorted((DOCS / 'reference').glob('*.md')))
    entries = re.findall(r'auto(?:class|exception|function):: ([\w.]+)', pages)
    modules = {entry.rpartition('.')[0] for entry in entries}
    below = 'jobsync.backends.single_writer.'
    assert {module for module in modules if not module.startswith(below)} <= public_modules()
    assert len(entries) > 50
