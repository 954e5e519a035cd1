"""How Sphinx builds these pages: ``tox -e docs``."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = 'jobsync'
copyright = 'the authors of jobsync'  # noqa: A001 - Sphinx's word
release = version = importlib.metadata.version('jobsync')

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_click',
    'sphinx_copybutton',
    'docs._ext.directives',
    'docs._ext.llms',
]
exclude_patterns = ['_build', '_ext']
html_theme = 'furo'
html_title = f'jobsync {release}'
templates_path: list[str] = []

myst_enable_extensions = ['colon_fence', 'deflist']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_class_signature = 'mixed'
autodoc_default_options = {'exclude-members': '__weakref__'}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

nitpicky = True
# Names of other projects cannot be looked up without their inventories; names of ours must exist.
nitpick_ignore_regex = [
    (r'py:.*', r'(?!jobsync).*'),
    (r'py:class', r'jobsync\..*\.[FTPR]'),
    (r'py:class', r'jobsync\.aio\.claim_loop\.Claims'),
]
