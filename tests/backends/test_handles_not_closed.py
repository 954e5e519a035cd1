"""A handle that the program does not close, as is easily forgotten with a ``Cluster``."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from jobsync import Cluster

HANDLES = 50


def count_descriptors() -> int:
    gc.collect()
    return sum(1 for _ in Path('/proc/self/fd').iterdir())


@pytest.mark.parametrize('url', ['redis://127.0.0.1:1/0?durable=no', 'postgresql://127.0.0.1:1/db'])
def test_it_leaves_no_descriptors(url: str) -> None:
    """A program that makes one for each page it shows does not run out of them."""
    Cluster(url)
    before = count_descriptors()
    for _ in range(HANDLES):
        Cluster(url)
    assert count_descriptors() < before + HANDLES
