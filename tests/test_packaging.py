"""What is installed, imported and promised on the first page fits together."""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tests.support.with_lint import lint_commands

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')
DRIVERS = ['sqlalchemy', 'redis', 'etcd3', 'grpc', 'psycopg', 'click', 'rich', 'prometheus_client', 'hypothesis', 'pytest']


def shell_blocks(page: str) -> list[str]:
    return [block.strip() for block in re.findall(r'```sh\n(.*?)```', page, flags=re.DOTALL)]


def tox_config() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / 'tox.ini', encoding='utf-8')
    return config


def build_wheel(folder: Path) -> Path:
    build = 'import sys, hatchling.build; hatchling.build.build_wheel(sys.argv[1])'
    subprocess.run([sys.executable, '-c', build, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob('*.whl')
    return wheel


def modules_after(statement: str) -> set[str]:
    code = f'{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    'statement', ['import jobsync', 'from jobsync import *', 'import jobsync.plugins', 'import jobsync.database']
)
def test_importing_jobsync_imports_no_driver(statement: str) -> None:
    """A program pays for no store but the one it uses, and for no tool of the command line."""
    assert modules_after(statement).isdisjoint(DRIVERS)


def test_the_command_line_starts_without_what_some_commands_need() -> None:
    """``jobsync --help``, a completion and each command on Redis or etcd start without SQLAlchemy."""
    assert 'sqlalchemy' not in modules_after('import jobsync.cli.commands')


def test_a_backend_that_fails_on_request_needs_no_test_framework() -> None:
    """A program may use the faults of ``jobsync.testing`` without the extra ``testing``."""
    assert modules_after('from jobsync.testing import FaultyBackend').isdisjoint({'pytest', 'hypothesis'})


def test_every_name_of_jobsync_testing_is_there() -> None:
    """Each name that ``jobsync.testing`` exports can be imported from it, and no other can."""
    testing = importlib.import_module('jobsync.testing')
    assert [name for name in testing.__all__ if getattr(testing, name).__name__ != name] == []
    with pytest.raises(AttributeError, match='nosuchname'):
        _ = testing.nosuchname


def test_importing_jobsync_imports_nothing_that_only_a_job_at_work_needs() -> None:
    """Neither what finds backends or asks a failing store again, nor what plans, an event loop, or SQL of the user's own."""
    later = {'pluggy', 'tenacity', 'jobsync._core.leader.decide', 'asyncio', 'jobsync.database'}
    assert modules_after('import jobsync').isdisjoint(later)


def test_a_job_that_is_entered_has_imported_what_an_outage_needs() -> None:
    """And what a leader needs: an import may fail because no descriptor is left, or find what a deployment has put there."""
    entered = 'Job("a", coordination_config=CoordinationConfig(backend="memory://imports"), wait_on_enter=60)'
    found = modules_after(
        'import jobsync._worker.session as session\n'
        'from jobsync import CoordinationConfig, Job\n'
        'session.wait_until_entered = lambda *_: None  # so this node never leads\n'
        f'{entered}.__enter__()'
    )
    assert {'tenacity', 'jobsync._core.leader.decide'} <= found


def test_a_demo_worker_needs_no_tool_of_the_command_line() -> None:
    """A worker process starts without click and rich, so what it shows of start-up is a user's own."""
    assert modules_after('import jobsync_demo.worker').isdisjoint({'click', 'rich', 'hypothesis', 'pytest'})


def test_the_wheel_has_the_tools_beside_the_library(tmp_path: Path) -> None:
    """One distribution installs the library, the benchmarks and the demo, and the command finds the two by entry points."""
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith('/entry_points.txt'))
    packages = {name.partition('/')[0] for name in names} - {wheel.name.removesuffix('-py3-none-any.whl') + '.dist-info'}
    assert packages == {'jobsync', 'jobsync_bench', 'jobsync_demo'}
    assert '[pytest11]\njobsync = jobsync.testing.pytest_plugin\n' in entry_points
    assert '[jobsync.commands]\nbench = jobsync_bench.command:bench\ndemo = jobsync_demo.command:demo\n' in entry_points


def locked(name: str) -> dict[str, set[str]]:
    """The versions that a file of ``requirements`` names, by distribution, all of them with hashes in that of CI."""
    lines = (ROOT / 'requirements' / name).read_text(encoding='utf-8').replace('\\\n', ' ').splitlines()
    found: dict[str, set[str]] = {}
    for line in lines:
        if line and not line.strip().startswith('#'):
            requirement = Requirement(line.partition(' --hash')[0])
            assert '--hash=sha256:' in line or name == 'lowest.txt'
            (version,) = requirement.specifier
            assert version.operator == '=='
            found.setdefault(canonicalize_name(requirement.name), set()).add(version.version)
    return found


def wanted() -> list[Requirement]:
    """What pyproject.toml depends on: always, in extras, and in groups, but for what drives a browser, which CI does not."""
    page = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
    extras, groups = page['project']['optional-dependencies'], page['dependency-groups']
    del groups['browser']
    texts = [*page['project']['dependencies'], *chain(*extras.values()), *chain(*groups.values())]
    found = [Requirement(text) for text in texts if isinstance(text, str)]  # a group that includes another names it in a table
    return [requirement for requirement in found if requirement.name != 'jobsync']


def test_it_runs_from_an_archive(tmp_path: Path) -> None:
    """As in an application of ``zipapp``: what is read beside the code is read from the archive."""
    archive, package = tmp_path / 'app.zip', ROOT / 'src'
    with zipfile.ZipFile(archive, 'w') as app:
        for path in package.rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                app.write(path, path.relative_to(package))
    program = (
        'import importlib, pkgutil, sys\n'
        'sys.path.insert(0, sys.argv[1])\n'
        'import jobsync\n'
        'assert jobsync.__file__.startswith(sys.argv[1])\n'
        'for module in pkgutil.walk_packages(jobsync.__path__, "jobsync."):\n'
        '    if not module.name.endswith("__main__"):\n'
        '        importlib.import_module(module.name)\n'
    )
    subprocess.run([sys.executable, '-c', program, str(archive)], cwd=tmp_path, check=True, timeout=300)


def test_tox_is_locked_too() -> None:
    """CI installs tox by its hash first, and the first page's command finds it there."""
    script = (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
    assert 'tox' in locked('tox.txt')
    assert script.index('--require-hashes -r requirements/tox.txt') < script.index('python -m pip install tox')


def test_the_lock_has_what_is_wanted() -> None:
    """CI installs versions that pyproject.toml allows, of everything that it names; if not, the lock is to be made anew."""
    there = locked('ci.txt')
    for requirement in wanted():
        versions = there.get(canonicalize_name(requirement.name), set())
        assert versions, f'{requirement.name} is not in requirements/ci.txt'
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_what_is_installed_follows_from_the_lock() -> None:
    """Nothing that a locked distribution needs is missing in the lock, as far as it is installed here in that version."""
    there = locked('ci.txt')
    for name, versions in there.items():
        with suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(name)
            for text in (found.requires or ()) if found.version in versions else ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({'extra': ''}):
                    assert canonicalize_name(needed.name) in there, f'{name} needs {text}'


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    """``tox -e lowest`` tries the very bounds; the linters and what makes the pages have none that matter to a user."""
    there = locked('lowest.txt')
    bounds = [each for each in wanted() if canonicalize_name(each.name) in there]
    assert {'attrs', 'sqlalchemy', 'redis', 'psycopg', 'grpcio', 'protobuf', 'etcd3', 'click'} <= {
        canonicalize_name(each.name) for each in bounds
    }
    for requirement in bounds:
        (bound,) = requirement.specifier
        (version,) = there[canonicalize_name(requirement.name)]
        assert Version(version).release[: len(Version(bound.version).release)] == Version(bound.version).release, requirement


def test_the_readme_gives_two_commands() -> None:
    """The first page has exactly the command of the demo and that of the tests."""
    assert shell_blocks(README) == ['python -m pip install tox && tox -e demo', 'python -m pip install tox && tox']


def test_environments_named_in_the_readme_exist() -> None:
    """Every ``tox -e`` on the first page names an environment of tox.ini, and the bare one runs lint and tests."""
    config = tox_config()
    named = set(re.findall(r'tox -e ([a-z0-9]+)', README))
    assert named
    assert all(config.has_section(f'testenv:{name}') for name in named)
    assert config['tox']['env_list'] == 'py'
    assert (
        config['testenv:py']['commands'].strip() == f'python -m tests.support.with_lint {config["testenv"]["commands"].strip()}'
    )
    assert ['mypy'] in lint_commands()


def test_ci_runs_the_readmes_test_command() -> None:
    """What the project checks for itself is what the first page tells others to run."""
    script = ROOT / '.ci' / 'run'
    assert f'({shell_blocks(README)[1]})' in script.read_text(encoding='utf-8')
    assert script.stat().st_mode & 0o111


def test_the_extra_all_is_all() -> None:
    """Whoever asks for everything gets every extra there is; those that are another's name for people, once."""
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']['optional-dependencies']
    (all_of_them,) = extras.pop('all')
    named = [name for name, needs in extras.items() if not all(need.startswith('jobsync[') for need in needs) or not needs]
    assert all_of_them == f'jobsync[{",".join(named)}]'
    assert {'postgresql', 'redis', 'etcd'} <= set(named)


def test_the_changelog_knows_this_version() -> None:
    """The version that is installed has its paragraph."""
    assert f'## [{importlib.metadata.version("jobsync")}]' in (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    """The quick start can be pasted into a file and run, and does all of its work. A second run does nothing, and says so."""
    (example,) = re.findall(r'```python\n(.*?)```', README, flags=re.DOTALL)
    (tmp_path / 'example.py').write_text(example)
    work = [f'worker-1 works on invoice-{number}' for number in (1, 2, 3)]
    for expected in (work, []):
        done = subprocess.run(
            [sys.executable, 'example.py'], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=240
        )
        assert done.stdout.splitlines() == [*expected, 'all invoices are complete']


AUTHORS_TEST = """
import attrs
import pytest
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.testing import BackendSuite, Harness


class Wrong(MemoryBackend):
    def snapshot(self):
        return attrs.evolve(super().snapshot(), locks_revision=77)


class WrongHarness(Harness):
    def connect(self, namespace='sync_', **options):
        return Wrong(MemoryStore())


class TestWrong(BackendSuite):
    @pytest.fixture
    def harness(self):
        return WrongHarness()
"""


def test_the_suite_in_the_wheel_shows_what_it_compared(tmp_path: Path) -> None:
    """An author of a backend who has installed the package reads the values that differ, not that something does."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        archive.extractall(tmp_path / 'installed')
    (tmp_path / 'test_wrong.py').write_text(AUTHORS_TEST)
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-c', '/dev/null', '--rootdir', '/', '-k', 'locks_revision_is', 'test_wrong.py'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path / 'installed')},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(tmp_path / 'installed') in done.stdout or 'installed/jobsync/testing' in done.stdout
    assert 'assert 77 == 0' in done.stdout


def test_no_two_files_of_tests_share_a_name() -> None:
    """Every file of tests has a name of its own: of two with one name, pytest leaves the second out with an error."""
    names = [path.name for folder in ('tests', 'examples') for path in (ROOT / folder).rglob('test_*.py')]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ('module', 'name', 'missing', 'extra'),
    [
        ('jobsync.testing', 'BackendSuite', 'pytest', 'testing'),
        ('jobsync.web', 'Server', 'starlette', 'web'),
        ('jobsync.web', 'Server', 'uvicorn', 'web'),
    ],
)
def test_what_an_import_needs_is_named(module: str, name: str, missing: str, extra: str) -> None:
    """An import that lacks an extra says which, and is still an error of the import of that module."""
    program = (
        'import sys\n'
        'class Missing:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        f'        if name == {missing!r}:\n'
        '            raise ModuleNotFoundError(name=name)\n'
        'sys.meta_path.insert(0, Missing())\n'
        f'try:\n    from {module} import {name}\n'
        'except ModuleNotFoundError as error:\n    print(error.name, error)\n'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120, check=True)
    what = f'{module}.{name}' if module == 'jobsync.testing' else module
    assert done.stdout == f"{missing} {what} needs {missing}: pip install 'jobsync[{extra}]'\n"
