"""Steps between statements: the modules under test are loaded with a call of ``step`` before each of their statements.

Python may run another thread, or the handler of a signal, between any two instructions. Here that happens between any two
statements, and between any two elements of a comprehension. Within an expression nothing happens, so that ``now() < deadline``
is one step, as it nearly is in fact.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, Protocol

__all__ = ['Host', 'Stepping', 'install']

_MODULES = ('jobsync._runtime.', 'jobsync._worker.', 'jobsync._event_log', 'jobsync.job', 'jobsync._core.agent.')
"""The code around the core, and the part of the core that has a state."""
_STEP = '__step__'


class Host(Protocol):
    """What makes a step: the part of ``VirtualHost`` that is used here."""

    steps_left: int
    """How many steps are to be made before one is more than a count."""

    def step(self) -> None:
        """Make a step."""


class _NoHost:
    steps_left = 10**18

    def step(self) -> None:
        """Do nothing."""


class Stepping:
    """The host whose threads make the steps."""

    host: Host = _NoHost()


def _step(value: Any = None) -> Any:
    host = Stepping.host
    if host.steps_left > 0:  # most steps are: so this one is written out
        host.steps_left -= 1
    else:
        host.step()
    return value


class _Inserting(ast.NodeTransformer):
    """Puts a step before each statement of each function, and around each element of a comprehension."""

    def visit(self, node: ast.AST) -> ast.AST:
        """Transform what is inside of a node, then its blocks."""
        self.generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[:has_docstring] + self._stepped(node.body[has_docstring:])
        elif isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try | ast.ExceptHandler | ast.match_case):
            for name in ('body', 'orelse', 'finalbody'):
                if block := getattr(node, name, None):
                    # Neither a signal's handler nor a lack of memory comes between an error and the first step of a ``finally``.
                    setattr(node, name, self._stepped(block)[name == 'finalbody' :])
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            node.elt = self._call(node.elt)
        elif isinstance(node, ast.DictComp):
            node.value = self._call(node.value)
        return node

    def _stepped(self, block: list[ast.stmt]) -> list[ast.stmt]:
        return [each for stmt in block for each in (self._step_before(stmt), stmt)]

    def _step_before(self, stmt: ast.stmt) -> ast.stmt:
        return ast.copy_location(ast.Expr(ast.copy_location(_call_of_step([], stmt), stmt)), stmt)

    def _call(self, value: ast.expr) -> ast.expr:
        return _call_of_step([value], value)


def _call_of_step(arguments: list[ast.expr], at: ast.expr | ast.stmt) -> ast.Call:
    return ast.copy_location(ast.Call(ast.copy_location(ast.Name(_STEP, ast.Load()), at), arguments, []), at)


class _Loader(SourceFileLoader):
    """Compiles a module with steps, and stores no bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module."""
        tree = ast.parse(self.get_data(self.path), self.path)
        _insert(tree)
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, 'exec', dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with ``step`` among its names."""
        vars(module)[_STEP] = _step
        super().exec_module(module)


def _insert(tree: ast.Module) -> None:
    """Insert steps into the functions of a module, and leave what runs at its import."""
    inserting = _Inserting()
    for statement in tree.body:
        parts = statement.body if isinstance(statement, ast.ClassDef) else [statement]
        for part in parts:
            if isinstance(part, ast.FunctionDef):
                inserting.visit(part)


class _Finder(MetaPathFinder):
    """Finds the modules under test, for ``_Loader``."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the module's spec if it is under test."""
        if not fullname.startswith(_MODULES):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def install() -> None:
    """Load the modules under test with steps from now on. None of them may be loaded yet."""
    if any(name.startswith(_MODULES) for name in sys.modules):
        raise RuntimeError('modules under test are loaded already')
    sys.meta_path.insert(0, _Finder())
