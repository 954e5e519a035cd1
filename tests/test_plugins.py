"""URL scheme to backend, with real distributions on the path."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend
from jobsync.errors import BackendNotFound, ConfigError
from jobsync.plugins import connect, installed

OPTIONS = BackendOptions()
WORKING = """
import jobsync.hookspecs as jobsync
from jobsync.backends.memory import MemoryBackend, MemoryStore

def connect(url, options):
    made = MemoryBackend(MemoryStore(), options)
    made.url = url
    return made

@jobsync.hookimpl
def jobsync_backend():
    return jobsync.BackendPlugin(name={name!r}, schemes={schemes!r}, connect=connect, summary='for tests')
"""
Install = Callable[..., None]


def working(*schemes: object, name: str = 'cards') -> str:
    """The source of a plugin that works."""
    return WORKING.format(name=name, schemes=schemes)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution with one plugin into a folder on the path, as an installer would."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(distribution: str, entry: str, source: str, *, version: str = '1.0', extras: tuple[str, ...] = ()) -> None:
        module = f'{distribution}_plugin_{entry}'
        (tmp_path / f'{module}.py').write_text(source)
        info = tmp_path / f'{distribution}-{version}.dist-info'
        info.mkdir(exist_ok=True)
        header = f'Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n'
        (info / 'METADATA').write_text(header + ''.join(f'Provides-Extra: {extra}\n' for extra in extras))
        with (info / 'entry_points.txt').open('a') as file:
            file.write(f'[jobsync]\n{entry} = {module}\n' if file.tell() == 0 else f'{entry} = {module}\n')
        monkeypatch.syspath_prepend(tmp_path)  # forgets what importlib has cached of the folder

    yield write
    for name in set(sys.modules) - before:
        if '_plugin_' in name:
            del sys.modules[name]


def refusal(url: str) -> str:
    """The message of ``BackendNotFound``, which a URL must meet."""
    with pytest.raises(BackendNotFound) as caught:
        connect(url, OPTIONS)
    return str(caught.value)


def listed(name: str) -> plugins.Installed:
    """The one line of the listing with that name."""
    [found] = [entry for entry in installed() if entry.name == name]
    return found


def test_our_own_are_found_by_entry_point() -> None:
    """Our backends are listed as those of a distribution like any other, and can be used."""
    for scheme in ('memory', 'sqlite'):
        found = listed(scheme)
        assert (found.schemes, found.distribution, found.error) == ((scheme,), 'jobsync', None)
        assert found.summary
    assert isinstance(connect('memory://', OPTIONS), MemoryBackend)


def test_another_distributions_backend(install: Install) -> None:
    """A distribution that names a module gets the whole URL of its schemes."""
    install('alpha', 'cards', working('cards', 'cards+zip'), version='2.1')
    for url in ('cards://a/b?c#d', 'cards+zip://x'):
        assert getattr(connect(url, OPTIONS), 'url', None) == url
    assert listed('cards') == plugins.Installed('cards', ('cards', 'cards+zip'), 'for tests', 'alpha', '2.1', None, ('cards://',))


def test_a_scheme_is_not_case_sensitive(install: Install) -> None:
    """A scheme in capitals is the same scheme; the rest of the URL is left alone."""
    install('alpha', 'cards', working('cards'))
    assert getattr(connect('CARDS://A/B', OPTIONS), 'url', None) == 'cards://A/B'


def test_unknown_scheme(install: Install) -> None:
    """An unknown scheme is named, with the schemes there are."""
    install('alpha', 'cards', working('cards'))
    message = refusal('nosuch://u:s3cret@h/db')
    assert 'nosuch://' in message
    assert all(f'{scheme}://' in message for scheme in ('memory', 'sqlite', 'cards'))
    assert 's3cret' not in message


@pytest.mark.parametrize(
    'url', ['', 'jobs.db', '://x', 'sq lite://x', '1a://x', 'u:s3cret@h/db', 'sqlite:/x', None, 3, b'memory://']
)
def test_malformed_url(url: object) -> None:
    """What is not a URL with a scheme is a ``ConfigError`` that names it, without its password."""
    with pytest.raises(ConfigError, match='must be a URL') as caught:
        connect(url, OPTIONS)  # type: ignore[arg-type]
    assert type(url).__name__ in str(caught.value)
    assert 's3cret' not in str(caught.value)


@pytest.mark.parametrize(
    ('url', 'meant'),
    [
        ('sqlite:e.db', 'sqlite:///e.db'),
        ('sqlite:/data/e.db', 'sqlite:////data/e.db'),
        ('e.db', 'sqlite:///e.db'),
        ('/data/e.db', 'sqlite:////data/e.db'),
        ('postgresql:u:s3cret@h/db', 'sqlite:///jobsync.db'),
    ],
)
def test_a_url_without_its_slashes(url: str, meant: str) -> None:
    """A database file is shown as it was given and as it has to be; of any other text nothing is shown."""
    with pytest.raises(ConfigError) as caught:
        connect(url, OPTIONS)
    shown = '***' if 's3cret' in url else url
    assert str(caught.value) == f"backend is '{shown}' (str): must be a URL such as {meant}, with :// after the scheme"


def test_one_scheme_two_distributions(install: Install) -> None:
    """A scheme that two distributions claim is refused with both names; every other scheme works."""
    install('alpha', 'one', working('cards', 'one', name='one'))
    install('beta', 'two', working('cards', 'two', name='two'), version='3.0')
    message = refusal('cards://x')
    assert "'one' of alpha 1.0 and 'two' of beta 3.0" in message
    assert listed('one').error == listed('two').error
    assert connect('memory://', OPTIONS)


def test_a_scheme_of_ours_claimed_by_another(install: Install) -> None:
    """Another distribution cannot quietly take a scheme of ours."""
    install('alpha', 'mine', working('memory', name='mine'))
    message = refusal('memory://')
    assert 'jobsync' in message
    assert 'alpha 1.0' in message


@pytest.mark.parametrize('scheme', ['cards', 'other'])
def test_one_entry_point_name_two_distributions(install: Install, scheme: str) -> None:
    """An entry point name that two distributions use is refused with both names, not resolved by the order of the path."""
    install('alpha', 'cards', working('cards'))
    install('beta', 'cards', working('other'))
    message = refusal(f'{scheme}://x')
    assert "entry point name 'cards' is claimed by 'cards' of alpha 1.0 and 'cards' of beta 1.0" in message
    assert connect('memory://', OPTIONS)


def test_two_schemes_of_one_distribution(install: Install) -> None:
    """One distribution may bring several backends."""
    install('alpha', 'one', working('one', name='one'))
    install('alpha', 'two', working('two', name='two'))
    assert connect('one://', OPTIONS)
    assert connect('two://', OPTIONS)


@pytest.mark.parametrize(
    ('source', 'cause'),
    [
        ('import no_such_module_anywhere', 'no_such_module_anywhere'),
        ('raise RuntimeError("bad day")', 'RuntimeError: bad day'),
        ('def (', 'SyntaxError'),
        ('x = 1', 'must give one BackendPlugin'),
        ('import jobsync.hookspecs as j\n@j.hookimpl\ndef jobsync_backend():\n    return 3', 'must give one BackendPlugin'),
        ('import jobsync.hookspecs as j\n@j.hookimpl\ndef jobsync_backend():\n    raise OSError("no")', 'OSError: no'),
        ('import jobsync.hookspecs as j\n@j.hookimpl\ndef jobsync_backend(extra):\n    return 3', 'PluginValidationError'),
        ('import jobsync.hookspecs as j\n@j.hookimpl\ndef jobsync_backends():\n    return 3', 'PluginValidationError'),
        (working('cards://'), 'its schemes are'),
        (working(), 'its schemes are'),
        (working(3), 'its schemes are'),
    ],
)
def test_a_broken_plugin(install: Install, source: str, cause: str) -> None:
    """It says which distribution and module, and why, to whoever asks for it or for the listing, and disturbs nobody else."""
    install('alpha', 'cards', source)
    message = refusal('cards://x')
    assert "'cards' of alpha 1.0 (alpha_plugin_cards) cannot be loaded" in message
    assert cause in message
    assert message == f'cards:// cannot be used: {listed("cards").error}'
    assert connect('memory://', OPTIONS)


def test_a_broken_plugin_may_be_what_an_unknown_scheme_wants(install: Install) -> None:
    """Who asks for a scheme that nobody has hears of the plugins that could not say theirs."""
    install('alpha', 'broken', 'import no_such_module_anywhere')
    assert 'no_such_module_anywhere' in refusal('cards://x')


def test_a_broken_plugin_does_not_take_a_working_ones_scheme(install: Install) -> None:
    """A plugin that could not be loaded only seems to claim the scheme it is named after."""
    install('alpha', 'cards', 'import no_such_module_anywhere')
    install('beta', 'working', working('cards'))
    assert connect('cards://x', OPTIONS)


def test_a_distribution_without_metadata(install: Install, tmp_path: Path) -> None:
    """A distribution whose metadata is gone still has a plugin, and does no harm."""
    install('alpha', 'cards', working('cards'))
    (tmp_path / 'alpha-1.0.dist-info' / 'METADATA').unlink()
    assert connect('memory://', OPTIONS)
    assert connect('cards://', OPTIONS)


DAMAGED = {'no equals sign': b'[console_scripts]\nrun\n', 'no UTF-8': b'[console_scripts]\nr\xfcn = module:main\n'}


@pytest.mark.parametrize('damage', DAMAGED)
@pytest.mark.parametrize('name', ['other', 'sqlite'])
def test_a_distribution_whose_entry_points_cannot_be_read(install: Install, tmp_path: Path, name: str, damage: str) -> None:
    """It keeps no backend of another distribution from its work, and is listed with the reason."""
    install('alpha', 'cards', working('cards'))
    install(name, 'broken', '')
    (tmp_path / f'{name}-1.0.dist-info' / 'entry_points.txt').write_bytes(DAMAGED[damage])
    assert connect('cards://x', OPTIONS)
    assert connect('sqlite:///jobs.db', OPTIONS)
    [reason] = [entry.error for entry in installed() if entry.distribution == name]
    assert reason is not None
    assert reason.startswith(f'the entry_points.txt of {name} cannot be read: ')
    assert reason in refusal('nosuch://x')


def test_a_plugin_that_ends_its_program(install: Install) -> None:
    """It is a broken one, and keeps no other from its work: in the thread of a job's calls, and in the main one of a command."""
    install('alpha', 'cards', 'raise SystemExit(3)')
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(connect, 'memory://', OPTIONS).result()
        messages = [pool.submit(refusal, 'cards://x').result(), refusal('cards://x')]
    assert {message.rpartition('cannot be used: ')[2] for message in messages} == {
        "'cards' of alpha 1.0 (alpha_plugin_cards) cannot be loaded: SystemExit: 3"
    }
    assert connect('memory://', OPTIONS)


def test_a_signal_while_a_plugin_is_loaded(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a handler raises in the main thread goes on, and ends the program."""

    def end(*_: object) -> None:
        raise SystemExit(7)

    monkeypatch.setattr(signal, 'to_come', [signal.SIGUSR1], raising=False)
    raising = 'import signal\nwhile signal.to_come:\n    signal.raise_signal(signal.to_come.pop())\n'
    install('alpha', 'cards', raising + working('cards'))
    before = signal.signal(signal.SIGUSR1, end)
    try:
        with pytest.raises(SystemExit, match='7'):
            connect('cards://x', OPTIONS)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert connect('cards://x', OPTIONS)


MISSING = working('cards').replace('    made =', '    import no_such_driver\n    made =')


def test_a_package_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the package was copied, or packed into a program, no backend is found: the error says what is missing."""
    monkeypatch.setattr('importlib.metadata.entry_points', lambda **_: [])
    monkeypatch.setattr(sys, 'path', [*sys.path, '/absent'])  # what is remembered belongs to the path
    with pytest.raises(BackendNotFound, match=r'no backend answers to sqlite://.*dist-info.*--copy-metadata jobsync'):
        connect('sqlite:///jobs.db', OPTIONS)


@pytest.mark.parametrize('returned', ['None', '{}', 'object()', '"cards"'])
def test_a_connect_that_returns_no_backend(install: Install, returned: str) -> None:
    """A forgotten ``return`` is an error: a job without a backend would be one without a cluster, which does no task."""
    install('alpha', 'cards', working('cards').replace('return made', f'return {returned}'))
    message = refusal('cards://x')
    assert message.startswith('cards://x: its plugin returned a value of type ')
    assert 'which has no acquire_leadership, append_audits, append_claims' in message


def test_a_connect_that_raises(install: Install) -> None:
    """An error of a plugin's own is one of jobsync, in one line, as any other reason why a backend cannot be used."""
    install('alpha', 'cards', working('cards').replace('def connect(url, options)', 'def connect(url)'))
    message = refusal('cards://x')
    assert message.startswith('cards://x: its plugin fails with TypeError: connect() takes 1 ')


def test_a_connect_whose_error_quotes_the_url(install: Install) -> None:
    """No password is told, and it is one line all the same."""
    raising = 'raise ValueError(f"cannot use {url}:\\n  no such table")'
    install('alpha', 'cards', working('cards').replace('made = ', f'{raising}\n    made = ', 1))
    what = 'its plugin fails with ValueError: cannot use cards://u:***@h/x?***: no such table'
    assert refusal('CARDS://u:s3cret@h/x?password=s3cret') == f'CARDS://u:***@h/x?***: {what}'


def test_missing_driver(install: Install) -> None:
    """A driver that is not there is named with the command that brings it, and only when its backend is asked for."""
    install('alpha', 'cards', MISSING, extras=('cards', 'other'))
    message = refusal('cards://u:s3cret@h/x')
    assert 'no_such_driver' in message
    assert "pip install 'alpha[cards]'" in message
    assert 's3cret' not in message
    assert listed('cards').error is None


def test_missing_driver_without_an_extra(install: Install) -> None:
    """Where no extra brings the driver, the distribution is named."""
    install('alpha', 'cards', MISSING)
    message = refusal('cards://x')
    assert 'no_such_driver' in message
    assert 'alpha 1.0' in message


def test_what_is_declared() -> None:
    """Each of ours lists its drivers' versions, and each of its examples can be asked what it declares."""
    for backend in installed():
        assert all(version for _, version in backend.drivers), backend
        for url in backend.examples:
            assert plugins.declared(url).name == backend.name
    assert dict(listed('etcd').drivers)['etcd3'] == '0.12.0'
    assert [plugins.declared(url).durable for url in listed('redis').examples] == [False, True]


def test_a_driver_that_is_not_installed(install: Install) -> None:
    """It is listed without a version."""
    install('alpha', 'cards', working('cards').replace("summary='for tests'", "drivers=('no-such-driver', 'attrs')"))
    (absent, (name, version)) = listed('cards').drivers
    assert absent == ('no-such-driver', None)
    assert (name, version is None) == ('attrs', False)


def test_a_backends_own_refusal_passes() -> None:
    """What a backend says of its URL reaches the user as it is."""
    with pytest.raises(ConfigError, match='memory'):
        connect('memory://a/b', OPTIONS)


DRIVERS = ('sqlalchemy', 'psycopg', 'redis', 'etcd3', 'sqlite3')


@pytest.mark.parametrize(
    'code', ['import jobsync, jobsync.plugins, jobsync.config', 'from jobsync import plugins as p; p.installed()']
)
def test_no_driver_is_imported(code: str) -> None:
    """Neither importing nor listing the backends imports a driver."""
    script = f'import sys; {code}; print([name for name in {DRIVERS} if name in sys.modules])'
    assert subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True).stdout == '[]\n'


def test_found_in_a_fresh_process(install: Install, tmp_path: Path) -> None:
    """A backend is found by a process that starts with the distribution on its path."""
    install('alpha', 'cards', working('cards'))
    script = 'from jobsync import backend, plugins; print(plugins.connect("cards://x", backend.BackendOptions()).info.name)'
    command, environ = [sys.executable, '-c', script], {'PYTHONPATH': str(tmp_path)}
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environ).stdout == 'memory\n'
