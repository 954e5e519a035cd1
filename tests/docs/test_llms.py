"""``llms.txt``, which the build makes from the pages."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from docs._ext import llms
from tests.docs.pages import DOCS, PAGES

TEXT = llms.llms_txt(DOCS)
ENTRIES = re.findall(r'^- \[(.+)\]\(_sources/(.+)\.md\.txt\): (.+)$', TEXT, flags=re.MULTILINE)


def test_it_begins_as_it_must() -> None:
    """A title and a summary, then sections of links: the form of https://llmstxt.org."""
    assert re.match(r'# jobsync\n\n> \w.+\n\n## Start\n\n- \[', TEXT)
    rest = [line for line in TEXT.splitlines()[3:] if line and not line.startswith('## ')]
    assert len(rest) == len(ENTRIES)


def test_every_page_of_the_sidebar_is_in_it_with_a_sentence() -> None:
    """A page that is in no sidebar is under one that is."""
    names = [name for _, name, _ in ENTRIES]
    assert len(names) == len(set(names))
    beside = {'index', *(f'benchmarks/{path.stem}' for path in (DOCS / 'benchmarks').glob('*.md'))} - {'benchmarks/index'}
    assert set(names) == {path.relative_to(DOCS).with_suffix('').as_posix() for path in PAGES} - beside
    assert [name for _, name, sentence in ENTRIES if len(sentence) < 20] == []


def test_the_reference_comes_before_the_decisions() -> None:
    """In the sidebar, whose order this is."""
    captions = re.findall(r'^## (.+)$', TEXT, flags=re.MULTILINE)
    assert captions.index('Reference') < captions.index('Contributing') < captions.index('Decisions')


def test_the_build_writes_it(tmp_path: Path) -> None:
    """Beside the first page, if the build has succeeded."""
    connected: list[object] = []
    llms.setup(SimpleNamespace(connect=lambda *event: connected.append(event)))
    assert connected == [('build-finished', llms.write)]
    assert "'docs._ext.llms'" in (DOCS / 'conf.py').read_text(encoding='utf-8')
    app = SimpleNamespace(builder=SimpleNamespace(format='html'), outdir=tmp_path, srcdir=DOCS)
    llms.write(app, ValueError())
    assert not list(tmp_path.iterdir())
    llms.write(app, None)
    assert (tmp_path / 'llms.txt').read_text(encoding='utf-8') == TEXT
