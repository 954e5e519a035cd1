"""``llms.txt``: the list of all pages for programs that read them, in the form of https://llmstxt.org, made from the pages.

Nothing here imports Sphinx, so the tests use it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ['llms_txt', 'setup', 'write']

_SOURCE = '_sources/{}.md.txt'
"""Where the build puts the Markdown of a page."""


def llms_txt(docs: Path) -> str:
    """Return the text for the pages in a folder: those of the sidebar, in its order, each with its title and first sentence."""
    index = (docs / 'index.md').read_text(encoding='utf-8')
    lines = [f'# {_title(index)}', '', f'> {_sentences(index)}', '']
    for caption, names in _sections(docs, index):
        lines += [f'## {caption}', '']
        for name in names:
            text = (docs / f'{name}.md').read_text(encoding='utf-8')
            lines.append(f'- [{_title(text)}]({_SOURCE.format(name)}): {_sentences(text)}')
        lines.append('')
    return '\n'.join(lines)


def _sections(docs: Path, index: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the captions of the sidebar, each with the names of its pages."""
    for block in re.findall(r'^```\{toctree\}\n(.*?)^```', index, flags=re.MULTILINE | re.DOTALL):
        caption = re.search(r'^:caption: (.+)$', block, flags=re.MULTILINE)
        names: list[str] = []
        for entry in (line for line in block.splitlines() if line and not line.startswith(':')):
            found = sorted(path.relative_to(docs).with_suffix('').as_posix() for path in docs.glob(f'{entry}.md'))
            names += [name for name in found if name not in names]
        yield (caption[1] if caption else 'Pages'), names


def _title(text: str) -> str:
    return _plain(re.search(r'^# (.+)$', text, flags=re.MULTILINE)[1])  # type: ignore[index]


def _sentences(text: str) -> str:
    """Return the first paragraph of a page, up to the end of its first sentence beyond forty characters."""
    body = text.partition('\n# ')[2] if not text.startswith('# ') else text
    body = re.sub(r'<!--.*?-->|^```.*?^```$|^\(.*\)=$|^\|.*$', '', body.partition('\n')[2], flags=re.MULTILINE | re.DOTALL)
    paragraph = next(
        (part for part in re.split(r'\n\s*\n', body) if part.strip() and not part.lstrip().startswith(('#', '-'))), ''
    )
    plain = _plain(' '.join(paragraph.split()))
    end = re.search(r'(?<=.{40}[.?])\s', plain)
    return (plain[: end.start()] if end else plain).rstrip(':')


def _plain(text: str) -> str:
    """Return Markdown without links, emphasis and roles."""
    text = re.sub(r'\{[a-z:]+\}`([^`<]+)(?: <[^>]+>)?`', r'\1', text)
    return re.sub(r'\[([^\]]+)\]\([^)]+\)', r'\1', text).replace('**', '')


def write(app: Any, exception: Exception | None) -> None:
    """Write ``llms.txt`` beside the first page, once the pages are built."""
    if exception is None and app.builder.format == 'html':
        (Path(app.outdir) / 'llms.txt').write_text(llms_txt(Path(app.srcdir)), encoding='utf-8')


def setup(app: Any) -> dict[str, Any]:
    """Have the build write the file."""
    app.connect('build-finished', write)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
