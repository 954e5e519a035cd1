"""Numbers of things in sentences."""

from __future__ import annotations

__all__ = ['counted']


def counted(number: float, one: str, many: str | None = None, *, spec: str = '') -> str:
    """Return a number with its noun: ``1 node``, ``2 nodes``.

    Args:
        number: how many there are.
        one: what follows the number 1. A verb may follow the noun: ``token has``.
        many: what follows any other number. None: ``one`` with an s.
        spec: how the number is formatted: ``,`` for people at a terminal, and nothing for a log, whose numbers programs find.
    """
    return f'{number:{spec or ("g" if isinstance(number, float) else "d")}} {one if number == 1 else many or f"{one}s"}'
