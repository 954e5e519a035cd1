"""``benchmarks.libraries.catalogue``, and the rule for code that runs in a rival's environment."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from benchmarks.libraries.catalogue import RINGS, SERVICES, Service
from benchmarks.libraries.environments import PINS

_ROOT = Path(__file__).parents[2]
_LIBRARIES = {
    'peer_claim': {'jobsync'},
    'peer_plan': {'jobsync'},
    'peer_store': {'jobsync'},
    'peer_tasks': {'jobsync', 'psycopg'},
    'peer_idle': {'jobsync', 'psycopg'},
    'tooz_member': {'tooz'},
    'skip_locked': {'psycopg'},
    'procrastinate_jobs': {'procrastinate'},
    'rings': {'uhashring', 'clandestined', 'tooz'},
}
"""What each module may import, besides Python's own library and what imports no more than that itself."""

services = pytest.mark.parametrize('service', SERVICES.values(), ids=list(SERVICES))


def path_of(module: str) -> Path:
    return _ROOT / f'{module.replace(".", "/")}.py'


def imported(path: Path) -> set[str]:
    """The modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            found.add(node.module)
    return found


@services
def test_its_environment_and_its_module_are_there(service: Service) -> None:
    assert service.rival in PINS
    assert path_of(service.module).exists()
    assert service.about


def test_every_environment_is_used() -> None:
    assert {service.rival for service in SERVICES.values()} == set(PINS)
    assert set(RINGS) <= set(SERVICES)


@services
def test_its_module_says_what_its_verbs_are(service: Service) -> None:
    told = ast.get_docstring(ast.parse(path_of(service.module).read_text())) or ''
    assert service.verbs
    for verb in service.verbs.values():
        assert verb.name.split()[0] in told, verb
        assert verb.means
        assert verb.ours


@services
def test_its_code_needs_nothing_of_ours(service: Service) -> None:
    own = _LIBRARIES[service.module.rpartition('.')[2]]
    todo, seen = [path_of(service.module)], set[Path]()
    while todo:
        path = todo.pop()
        seen.add(path)
        for name in imported(path):
            first = name.partition('.')[0]
            if first == 'benchmarks':
                todo += [path_of(name)] if path_of(name) not in seen else []
            else:
                assert first in sys.stdlib_module_names or first in own, (path, name)


@services
def test_it_is_started_with_exactly_its_arguments(service: Service) -> None:
    with pytest.raises(TypeError, match=service.arguments[0]):
        service.start()
    with pytest.raises(TypeError, match=service.name):
        service.start(**dict.fromkeys(service.arguments, 'x'), more='x')
