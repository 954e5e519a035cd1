"""Helpers of these tests are imported as ``tests.core.…``, which is also how mypy names them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
