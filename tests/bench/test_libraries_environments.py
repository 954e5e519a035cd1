"""``benchmarks.libraries.environments``: an environment for each rival, made once, or one clear error."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.libraries import environments
from benchmarks.libraries.environments import LibraryUnavailable, folder, packages_of, python_of
from tests.bench.wheels import wheel

_MEANS = ('uv', 'venv and pip')


@pytest.fixture
def envs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environments are made."""
    place = tmp_path / 'envs'
    monkeypatch.setenv('JOBSYNC_BENCH_ENVS', str(place))
    return place


@pytest.fixture
def thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A rival whose only package is at hand."""
    monkeypatch.setattr(environments, 'PINS', {'thing': (str(wheel(tmp_path, 'thing')),)})
    return 'thing'


def said(python: Path, program: str) -> str:
    return subprocess.run([str(python), '-c', program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.full
@pytest.mark.parametrize('means', _MEANS)
def test_a_rivals_environment_has_what_is_pinned_and_nothing_of_ours(
    envs: Path, thing: str, means: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if means != 'uv':
        monkeypatch.setattr('shutil.which', lambda _: None)
    monkeypatch.setenv('PYTHONPATH', str(Path(environments.__file__).parents[2] / 'src'))
    python = python_of(thing)
    assert python.is_relative_to(envs)
    monkeypatch.delenv('PYTHONPATH')
    assert said(python, 'import thing; print(thing.answer)') == '42'
    assert said(python, 'import importlib.util as u; print(u.find_spec("jobsync"))') == 'None'
    assert packages_of(thing)['thing'] == '1.0'


def test_it_is_made_once(envs: Path, thing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    python = python_of(thing)

    def refuse(rival: str, command: Sequence[str]) -> str:
        raise AssertionError((rival, command))

    monkeypatch.setattr(environments, '_run', refuse)
    assert python_of(thing) == python


def test_it_is_another_when_a_pin_changes(envs: Path, thing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = python_of(thing)
    pins = (*environments.PINS[thing], str(wheel(tmp_path, 'more')))
    monkeypatch.setattr(environments, 'PINS', {thing: pins})
    another = python_of(thing)
    assert another != python
    assert said(another, 'import more; print(more.answer)') == '42'


def test_one_that_was_left_unfinished_is_made_again(envs: Path, thing: str) -> None:
    python = python_of(thing)
    place = python.parent.parent
    (place / environments._MADE).unlink()
    python.unlink()
    assert said(python_of(thing), 'import thing; print(thing.answer)') == '42'


def test_a_failed_install_is_one_error_that_names_the_rival(envs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / 'absent-1.0-py3-none-any.whl'
    monkeypatch.setattr(environments, 'PINS', {'thing': (str(missing),)})
    for _ in range(2):  # what is left of the first attempt is not taken for an environment
        with pytest.raises(
            LibraryUnavailable, match=r"rival 'thing' cannot be installed \(.*absent-1.0.*\): .*ended with"
        ) as caught:
            python_of('thing')
        assert caught.value.rival == 'thing'
        assert '\n' not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_that_error_too(thing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'file').touch()
    monkeypatch.setenv('JOBSYNC_BENCH_ENVS', str(tmp_path / 'file' / 'envs'))
    with pytest.raises(LibraryUnavailable, match='thing'):
        python_of(thing)


def test_the_folder_is_the_named_one_or_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.delenv('JOBSYNC_BENCH_ENVS', raising=False)
    assert folder() == tmp_path / '.cache' / 'jobsync-bench'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
    assert folder() == tmp_path / 'caches' / 'jobsync-bench'
    monkeypatch.setenv('JOBSYNC_BENCH_ENVS', str(tmp_path / 'named'))
    assert folder() == tmp_path / 'named'


def test_every_library_that_does_the_work_is_pinned_to_one_version() -> None:
    for pins in environments.PINS.values():
        assert pins
        assert all(pin.count('==') == 1 for pin in pins)
