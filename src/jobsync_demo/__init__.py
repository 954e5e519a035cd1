"""The demo: real processes share real files, one of them is killed midway, and the workers' own logs say what happened.

Each worker is an operating-system process. It appends to a log of its own, one ``write`` per line, so that the log
survives ``SIGKILL`` up to its last line. All times in it are ``CLOCK_MONOTONIC``, which is one clock for all processes of a
host. The verdict is computed from these logs and from nothing else: not from what jobsync says of itself.

What is measured, and what each figure proves:

**Files worked on at once.** A worker notes *begin* after ``can_claim_task`` and ``add_task`` have answered True and before it
opens the file, *end* after it has the result. The work lies wholly within [begin, end], so that work of two processes on
one file at one instant cannot escape; and between begin and end the process had that file and no other, so that an overlap
found is real. A killed worker's open file lasts until just before the signal was sent.

**Tokens owned at once.** A thread of each worker reads ``job.my_tokens`` every few hundredths of a second and notes the clock
before and after the reading. ``my_tokens`` is one and the same object while nothing changed and is made anew by every
change of ownership, so a token in the object of two successive readings was this process's from the end of the first
reading to the start of the last. Only such certain intervals are compared, so an overlap found is real; one that is shorter
than the time between two readings can escape, and the longest such time is part of the report. (The check of files has no
such limit.)

**Longest time a token had no owner.** The longest time between two successive readings, of whatever process, that saw the
token owned. It is an upper bound: the true time is shorter by up to two readings.

**Done twice** is something else than owned twice: two processes finished one file one after the other. It happens to the
files that a worker had finished but not yet reported by ``write_audit`` when it was killed. Nobody else can know that they
were done, so the new owner does them again. This is why jobsync does not promise exactly-once effects.
"""
