"""Random numbers that leave the program's own in peace."""

from __future__ import annotations

from random import SystemRandom

__all__ = ['RANDOM']

# The functions of the module ``random`` share one generator with the program.
# t=0  a program calls random.seed(7), to draw the same numbers in each run
# t=1  a thread of this library draws from the same generator: the program's next number depends on the moment
# t=2  another worker with this seed waits for the same store: without t=1, both would try again at the same moments
# So the numbers are those of the operating system, which differ in each process, also after a fork.
RANDOM = SystemRandom()
