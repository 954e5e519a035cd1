"""What ends one start of a task ends no other one: three workers at one task, and starts that overlap."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.job.stores import Store, kinds
from tests.job.test_two_at_one_task import OTHER, add, begin_a_block, holders


@pytest.mark.parametrize('store', kinds(['memory']), indirect=True)
def test_a_block_fails_that_has_begun_while_the_claim_of_another_worker_was_on_its_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one works on the task since then: it would pass on amid the work."""
    with store.job('a') as job:
        claims, ends = job._task_log.claims, list[Callable[[Exception | None], object]]()
        record = claims.record_alone

        def begin_first(*arguments: Any) -> bool:
            monkeypatch.undo()
            ends.append(begin_a_block(job))
            return record(*arguments)

        monkeypatch.setattr(claims, 'record_alone', begin_first)
        add(job, OTHER)
        with suppress(ZeroDivisionError):
            ends[0](ZeroDivisionError())
        assert holders(job) == ([OTHER], [OTHER])
