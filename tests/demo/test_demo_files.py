"""The demo's work."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.errors import ConfigError
from jobsync_demo import files
from jobsync_demo.files import digest, find_files, task_id


@given(content=st.binary(max_size=40) | st.text(' \n\tab', max_size=40).map(str.encode), chunk=st.integers(1, 50))
def test_a_digest_is_that_of_the_whole_content(tmp_path_factory: pytest.TempPathFactory, content: bytes, chunk: int) -> None:
    """Lines, words and hash do not depend on how the file is cut into chunks."""
    path = tmp_path_factory.getbasetemp() / 'content'
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, '_CHUNK', chunk)
        found = digest(path)
    assert (found.lines, found.words) == (content.count(b'\n'), len(content.split()))
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_cannot_be_read_has_a_digest_that_says_so(tmp_path: Path) -> None:
    """Reading never raises: the reason is the result."""
    assert digest(tmp_path / 'gone').error == 'No such file or directory'


def test_files_are_found_below_and_links_are_not_followed(tmp_path: Path) -> None:
    """Regular files at any depth, relative and in order; no links, no folders that Python rewrites."""
    for name in ('b', 'a/c', 'a/__pycache__/d.pyc'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / 'link').symlink_to('b')
    (tmp_path / 'loop').symlink_to(tmp_path)
    assert find_files(tmp_path) == ['a/c', 'b']


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole disk is refused at once, not after an hour."""
    monkeypatch.setattr(files, 'MAX_FILES', 2)
    for name in 'abc':
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match='more than 2 files'):
        find_files(tmp_path)


def test_a_name_that_is_no_text_makes_a_task_id_that_is() -> None:
    """A name with bytes that are not UTF-8 is spelled out; any other is its own id."""
    assert task_id('caf\udce9') == 'caf\\udce9'
    assert task_id('café/ü') == 'café/ü'
