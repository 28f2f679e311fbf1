"""Checks of what users give, and the messages where it does not do."""

import difflib
import math
from collections.abc import Sequence


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is not among the known ones.

    Args:
        what: What it is the name of, for the message.
        name: As the user gave it.
        known: Those that there are.

    Raises:
        ValueError: If it is not; the message lists the known ones and suggests the nearest.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no {what} {name!r}, only {', '.join(known)}{hint}")


def check_positive(**values: float) -> None:
    """Refuse numbers, given by name, that are not positive and finite.

    Raises:
        ValueError: For the first of them; NaN is one.
    """
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
