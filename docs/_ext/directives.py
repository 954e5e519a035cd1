"""Directives for tables that are made from the code, and references to names by where users import them from."""

from __future__ import annotations

from typing import Any

from docs._ext import facts
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import jobsync


class _MarkdownTable(SphinxDirective):
    """A table in a Markdown page."""

    def lines(self) -> list[str]:
        """Return the table as lines of Markdown."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the lines as part of the page."""
        holder = nodes.container()
        self.state.nested_parse(StringList(self.lines(), self.get_source_info()[0]), self.content_offset, holder)
        return holder.children


class ConfigTable(_MarkdownTable):
    """Every field of ``CoordinationConfig``."""

    def lines(self) -> list[str]:
        """One row for each field."""
        rows = [(f'`{f.name}`', f'`{f.default}`', f'{f.meaning} *Allowed: {f.allowed}.*') for f in facts.config_fields()]
        return facts.table(('field', 'default', 'meaning'), rows)


class BackendsTable(_MarkdownTable):
    """What every installed backend declares."""

    def lines(self) -> list[str]:
        """One row for each backend, or for each set of declarations that its URL may choose."""
        head = ('backend', 'URL, such as', 'nodes may be on', 'durable', 'push', 'tokens at most', 'SQL')
        places = {'process': 'one process', 'host': 'one host', 'network': 'any host'}
        rows = [
            (
                f'**{b.name}**: {b.summary}',
                f'`{url}`',
                places[info.reach.value],
                _yes(info.durable),
                _yes(info.push),
                f'{info.max_tokens:,}',
                _yes(info.sql),
            )
            for b in facts.backends()
            for url, info in b.infos
        ]
        return facts.table(head, rows)


def _yes(value: bool) -> str:
    return 'yes' if value else 'no'


def _by_public_name(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Resolve ``jobsync.config.fields.CoordinationConfig`` to ``jobsync.CoordinationConfig``, as which it is documented."""
    name = str(node.get('reftarget', '')).rpartition('.')[2]
    if node.get('refdomain') != 'py' or name not in jobsync.__all__:
        return None
    domain = env.get_domain('py')
    return domain.resolve_xref(env, node['refdoc'], app.builder, node['reftype'], f'jobsync.{name}', node, content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of this."""
    app.add_directive('config-table', ConfigTable)
    app.add_directive('backends-table', BackendsTable)
    app.connect('missing-reference', _by_public_name)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
