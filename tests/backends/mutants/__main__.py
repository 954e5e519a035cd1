"""Write the table of mutants into the documentation: ``python -m tests.backends.mutants``."""

from __future__ import annotations

from tests.backends.mutants.catching import table
from tests.backends.mutants.page import write

write(table())
