"""The demo: real processes share real files, one of them is killed midway, and the workers' own logs show the outcome.

Each worker is an operating-system process with a log of its own (``jobsync.testing.worker_log``). The verdict is computed from
these logs and from nothing else: not from what jobsync reports of itself. ``jobsync.testing.verdict`` says what each figure
proves. A task is a file. A worker logs the begin of its work after ``can_claim_task`` and ``add_task`` have answered True and
before it opens the file, and the end after it has the result.

**Done twice** is something else than owned twice: two processes finished one file one after the other. It happens to files that
a worker had finished and not yet reported by ``write_audit`` when it was killed. No other process can know that they were done,
so the new owner does them again. This is why jobsync does not promise exactly-once effects.
"""
