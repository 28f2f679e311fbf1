"""Checks of what users give, and the messages where it does not do."""

import difflib
import importlib
import math
from collections.abc import Sequence
from typing import Any


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


def imported(what: str, name: str) -> Any:
    """What a user's "module:attribute" names, such as "my_engine:MyEngine".

    Args:
        what: What it is to be, for the message.
        name: As the user gave it.

    Raises:
        ValueError: If there is no such module or attribute; the message says where Python looks.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the {what} {name!r} cannot be had: {error}; is it installed, or its folder on PYTHONPATH?"
        ) from None
    except (AttributeError, ValueError):
        raise ValueError(
            f"the {what} {name!r} cannot be had: write module:Class, with a name that the module has"
        ) from None


def check_positive(**values: float) -> None:
    """Refuse numbers, given by name, that are not positive and finite.

    Raises:
        ValueError: For the first of them; NaN is one.
    """
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
