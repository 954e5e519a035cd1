"""The harness of ``jobsync conformance``: any backend, reached by its URL alone."""

from __future__ import annotations

import functools
import secrets
import subprocess
from collections.abc import Callable

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions, Reach
from jobsync.testing.conformance.harness import Ability, Harness

__all__ = ['Commands', 'UrlHarness', 'url_of_a_test']

Commands = dict[str, str]
"""Shell commands that act on the store, by the name of the ``Harness`` method that runs them."""

OFFERED = {
    Ability.OUTAGE: {'stop', 'start'},
    Ability.RESTART: {'restart'},
    Ability.CRASH: {'restart'},
    Ability.REFUSAL: {'refuse_writes', 'accept_writes'},
    Ability.WIPE: {'wipe'},
    Ability.FAILOVER: {'fail_over'},
}


def url_of_a_test(url: str) -> str:
    """Return the URL with other letters in place of ``{unique}`` at each call."""
    return url.replace('{unique}', secrets.token_hex(4))


def connect_to(url: str, prefix: str, namespace: str, **options: float) -> Backend:
    """Connect to the namespace whose name is ``prefix`` and ``namespace`` in one."""
    return plugins.connect(url, BackendOptions(prefix + namespace, **options))


def _command(method: Callable[[Harness], None]) -> Callable[[UrlHarness], None]:
    """Make a method that runs the shell command for a method of ``Harness``."""

    @functools.wraps(method)
    def run(self: UrlHarness) -> None:
        subprocess.run(self.commands[method.__name__], shell=True, check=True, timeout=120)  # noqa: S602 - the user's own command

    return run


class UrlHarness(Harness):
    """A harness for a store that need not be empty: the namespaces of each test begin with random letters of their own.

    ``{unique}`` in the URL is replaced by other letters for each test. Where the URL names a file, each test has a store of its
    own. An ability without its commands is missing, and a declaration that needs it is no failure here.

    The protocol has no call that deletes a namespace, so the records of a test stay in the store.

    Args:
        url: URL of the store.
        commands: Shell commands by the name of a ``Harness`` method: ``restart``, ``stop`` and ``start``, ``refuse_writes`` and
            ``accept_writes``, ``wipe``, ``fail_over``.
        quick: Whether to call ``Harness.hurry``.
    """

    proves_declarations = False

    def __init__(self, url: str, commands: Commands | None = None, *, quick: bool = False) -> None:
        self.url = url_of_a_test(url)
        self.prefix = f'c{secrets.token_hex(4)}_'
        self.commands = commands or {}
        self._backends: list[Backend] = []
        info = self.connect().info
        if quick:
            self.hurry()
        able = {ability for ability, needed in OFFERED.items() if needed <= self.commands.keys()}
        if info.reach is not Reach.PROCESS:
            able.add(Ability.PROCESSES)
        self.abilities = frozenset(able)

    def connect(self, namespace: str = 'sync_', **options: float) -> Backend:
        """See ``Harness``."""
        backend = connect_to(self.url, self.prefix, namespace, **options)
        self._backends.append(backend)
        return backend

    def close(self) -> None:
        """See ``Harness``."""
        for backend in self._backends:
            backend.close()

    def connector(self) -> Callable[[str], Backend]:
        """See ``Harness``."""
        return functools.partial(connect_to, self.url, self.prefix)

    restart = _command(Harness.restart)
    stop = _command(Harness.stop)
    start = _command(Harness.start)
    refuse_writes = _command(Harness.refuse_writes)
    accept_writes = _command(Harness.accept_writes)
    wipe = _command(Harness.wipe)
    fail_over = _command(Harness.fail_over)
