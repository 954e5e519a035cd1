"""From a URL's scheme to a backend.

Every backend, jobsync's own included, is a module named under the entry point group ``jobsync`` (see ``jobsync.hookspecs``). All
are imported when the first backend is wanted, which is cheap: none may import its driver before ``connect``.

A broken plugin is an error only for a URL with its scheme, and is shown in the list of backends. So each plugin has a plugin
manager of its own. One manager for all would also silently skip the second of two plugins of one name, and the order of
``sys.path`` would choose the second.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs
import pluggy

from jobsync import hookspecs
from jobsync._core.redact import no_url, redact_url, safe_repr
from jobsync._metadata import UNKNOWN, version_of, why_incomplete
from jobsync.backend import Backend, BackendInfo, BackendOptions
from jobsync.backends._common.importing import importing
from jobsync.config.checks import is_storable, missing_methods, nearest
from jobsync.errors import BackendNotFound, ConfigError, JobsyncError

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ['Installed', 'connect', 'declared', 'installed']

_SCHEME = re.compile('[a-z][a-z0-9+.-]*')


@attrs.frozen
class Installed:
    """An installed backend, whether or not it can be used."""

    name: str
    schemes: tuple[str, ...]
    """URL schemes that choose it. Of a plugin that cannot be loaded: the name of its entry point."""
    summary: str
    distribution: str
    version: str
    error: str | None
    """Why it cannot be used; None if it can, as far as is known without its driver."""
    examples: tuple[str, ...] = ()
    """URLs whose declarations ``declared`` returns."""
    drivers: tuple[tuple[str, str | None], ...] = ()
    """Distributions that it works with, each with its version; None for one that is not installed."""


@attrs.frozen
class _Candidate:
    """An entry point, and the plugin it has led to."""

    name: str
    distribution: str
    version: str
    extras: frozenset[str]
    """The extras of the distribution."""
    plugin: hookspecs.BackendPlugin | None
    """None if it could not be loaded."""
    error: str | None
    cause: BaseException | None = None

    @property
    def schemes(self) -> tuple[str, ...]:
        return (self.name,) if self.plugin is None else self.plugin.schemes

    def __str__(self) -> str:
        return f'{self.name!r} of {self.distribution} {self.version}'


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for a URL. Reaches no server.

    Args:
        url: The URL of a store.
        options: The namespace and the time limits.

    Raises:
        ConfigError: The URL has no scheme, or its backend refuses it.
        BackendNotFound: No plugin has the scheme, several have it, the plugin is broken, or its driver is not installed. Also
            what else the plugin raises, as the cause.
    """
    if isinstance(url, str) and not is_storable(url):
        raise ConfigError(f'backend is {safe_repr(redact_url(url))}: must be text without NUL and lone surrogates')
    with importing():
        return _connect(url, options)


def _connect(url: str, options: BackendOptions) -> Backend:
    scheme = _scheme(url)
    path = tuple(sys.path)
    chosen = _usable(scheme, _remembered(path))
    if chosen is None:
        _remembered.cache_clear()  # it may have been installed since
        chosen = _usable(scheme, _remembered(path))
    if chosen is None or chosen.plugin is None:
        candidates = _remembered(path)
        if claims := [candidate for candidate in candidates if scheme in candidate.schemes]:
            raise BackendNotFound(f'{scheme}:// cannot be used: {claims[0].error}') from claims[0].cause
        raise BackendNotFound(_unknown(scheme, candidates))
    try:
        backend = chosen.plugin.connect(scheme + url[len(scheme) :], options)
    except ImportError as error:
        raise BackendNotFound(f'{scheme}:// needs a driver that cannot be imported ({error}): {_remedy(chosen)}') from error
    except JobsyncError:
        raise
    except Exception as error:
        raise _plugin_error(url, error) from error
    if missing := missing_methods(backend):
        what = f'a value of type {type(backend).__name__}, which has no {", ".join(missing[:3])}'
        raise BackendNotFound(f'{redact_url(url)}: its plugin returned {what}')
    return backend


def installed() -> list[Installed]:
    """Return every installed backend by name, also those that cannot be used."""
    return [_listed(candidate) for candidate in _candidates()]


def declared(url: str) -> BackendInfo:
    """Return what the backend for a URL declares. Imports its driver, and reaches no server.

    Args:
        url: The URL of a store.

    Raises:
        ConfigError: As ``connect`` raises it.
        BackendNotFound: As ``connect`` raises it; or ``info`` or ``close`` raises another error, or nothing is declared.
    """
    try:
        backend = connect(url, BackendOptions())
        try:
            info = backend.info
        finally:
            backend.close()
    except JobsyncError:
        raise
    except Exception as error:
        raise _plugin_error(url, error) from error
    if not isinstance(info, BackendInfo):
        raise BackendNotFound(f'{redact_url(url)}: its plugin declares {safe_repr(info)}, which is no BackendInfo')
    return info


def _plugin_error(url: str, error: Exception) -> BackendNotFound:
    """Return the error in one line, in which the URL, as the plugin was given it, shows no password."""
    place, shown = (text.partition('://')[2] for text in (url, redact_url(url)))
    said = str(error).replace(place, shown) if place else str(error)
    return BackendNotFound(f'{redact_url(url)}: its plugin fails with {type(error).__name__}: {" ".join(said.split())}')


def _listed(candidate: _Candidate) -> Installed:
    plugin = candidate.plugin
    if plugin is None:
        plugin = hookspecs.BackendPlugin(candidate.name, candidate.schemes, connect=connect)
    return Installed(
        name=plugin.name,
        schemes=plugin.schemes,
        summary=plugin.summary,
        distribution=candidate.distribution,
        version=candidate.version,
        error=candidate.error,
        examples=plugin.examples or (f'{plugin.schemes[0]}://',),
        drivers=tuple((driver, version_of(driver)) for driver in plugin.drivers),
    )


def _scheme(url: str) -> str:
    if not isinstance(url, str):
        raise ConfigError(f'backend is {no_url(url)}')
    scheme, separator, _ = url.partition('://')
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigError(f'backend is {no_url(url)}')
    return scheme


@functools.lru_cache(maxsize=1)
def _remembered(path: tuple[str, ...]) -> list[_Candidate]:  # noqa: ARG001 - what the answer depends on
    """Return what ``_candidates`` does; once for each ``sys.path``, because it reads the metadata of every distribution there."""
    return _candidates()


def _usable(scheme: str, candidates: Iterable[_Candidate]) -> _Candidate | None:
    return next((candidate for candidate in candidates if scheme in candidate.schemes and candidate.error is None), None)


def _candidates() -> list[_Candidate]:
    """Load all entry points, and return them by name; those that claim a name or scheme of another one have an error."""
    from jobsync._entry_points import read_entry_points  # slow to import, and needed only for a backend

    entries, damaged = read_entry_points(hookspecs.GROUP)
    found = list(map(_try, entries))
    found.sort(key=lambda candidate: (candidate.name, candidate.distribution))
    found = _mark_conflicts(found, 'entry point name', lambda candidate: (candidate.name,))
    found = _mark_conflicts(found, 'scheme', lambda candidate: candidate.schemes if candidate.plugin else ())
    # Last, as they claim nothing: one may be named as a backend of ours is, such as redis.
    return [*found, *(_Candidate(name, name, '?', frozenset(), None, error) for name, error in damaged.items())]


def _try(entry: EntryPoint) -> _Candidate:
    distribution, version, extras = _origin(entry.dist)
    from jobsync._entry_points import is_of_module

    plugin, error, cause = None, None, None
    try:
        plugin = _load(entry)
    except BaseException as problem:
        if not is_of_module(problem, functools.partial(_load, entry)):
            raise
        cause = problem
        error = (
            f'{entry.name!r} of {distribution} {version} ({entry.value}) cannot be loaded: {type(problem).__name__}: {problem}'
        )
    return _Candidate(entry.name, distribution, version, extras, plugin, error, cause)


def _origin(distribution: Distribution | None) -> tuple[str, str, frozenset[str]]:
    """Return the name, version and extras of a distribution, whose metadata may be missing or damaged."""
    nothing = UNKNOWN, '?', frozenset[str]()
    if distribution is None:
        return nothing
    try:
        metadata = distribution.metadata
        return metadata['Name'], metadata['Version'], frozenset(metadata.get_all('Provides-Extra') or ())
    except Exception:  # noqa: BLE001  (damaged metadata may raise anything)
        return nothing


def _load(entry: EntryPoint) -> hookspecs.BackendPlugin:
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(entry.load(), name=entry.name)
    manager.check_pending()
    plugins = manager.hook.jobsync_backend()
    if len(plugins) != 1 or not isinstance(plugins[0], hookspecs.BackendPlugin):
        raise TypeError(f'its hook jobsync_backend must give one BackendPlugin, and gave {safe_repr(plugins)}')
    plugin = plugins[0]
    if not plugin.schemes or not all(isinstance(scheme, str) and _SCHEME.fullmatch(scheme) for scheme in plugin.schemes):
        raise ValueError(f'its schemes are {safe_repr(plugin.schemes)}: must be lower case, without ://')
    return plugin


def _mark_conflicts(candidates: list[_Candidate], what: str, claims: Callable[[_Candidate], Iterable[str]]) -> list[_Candidate]:
    """Return the candidates, with an error in each that claims what another one claims too."""
    claimants: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        for claim in set(claims(candidate)):
            claimants.setdefault(claim, []).append(candidate)
    marked = []
    for candidate in candidates:
        shared = next((claim for claim in claims(candidate) if len(claimants[claim]) > 1), None)
        if shared is not None and candidate.error is None:
            others = ' and '.join(str(claimant) for claimant in claimants[shared])
            candidate = attrs.evolve(candidate, error=f'the {what} {shared!r} is claimed by {others}: uninstall one')
        marked.append(candidate)
    return marked


def _unknown(scheme: str, candidates: list[_Candidate]) -> str:
    main_scheme = {s: each.schemes[0] for each in candidates if each.error is None for s in each.schemes}
    usable = sorted(main_scheme)
    near = nearest(scheme, usable)
    hint = f'did you mean {main_scheme[near]}://? ' if near else ''
    message = f'no backend answers to {scheme}://; {hint}installed are {", ".join(f"{s}://" for s in usable) or "none"}'
    broken = '; '.join(candidate.error for candidate in candidates if candidate.error is not None)
    message = f'{message}. Besides these, {broken}' if broken else message
    incomplete = why_incomplete([candidate.distribution for candidate in candidates])  # they are found by its metadata as well
    return f'{message}; {incomplete}' if incomplete else message


def _remedy(candidate: _Candidate) -> str:
    """Return the command that installs the driver, if the distribution has an extra named like its backend."""
    name = candidate.plugin.name if candidate.plugin else candidate.name
    if name in candidate.extras:
        return f"pip install '{candidate.distribution}[{name}]'"
    return f'see what {candidate.distribution} {candidate.version} needs'
