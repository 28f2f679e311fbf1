"""Mitsuba's variant while we use it, and its objects from descriptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from render.engine import EngineError

# The variant that is plain compiled code. Those that compile for each scene need an LLVM library, and end the
# whole process where it is of a version that they do not get on with.
_VARIANT = "scalar_rgb"


@contextmanager
def variant() -> Iterator[None]:
    """Mitsuba's variant is ours inside, and afterwards what it was, if it was set.

    Raises:
        EngineError: If the package is missing.
    """
    try:
        import mitsuba
    except ImportError as error:
        raise EngineError(
            f'the engine "mitsuba" needs the package mitsuba: pip install "unrender[mitsuba]" ({error})'
        ) from None
    before = mitsuba.variant()
    mitsuba.set_variant(_VARIANT)
    try:
        yield
    finally:
        if before is not None:
            mitsuba.set_variant(before)


def load(description: dict[str, Any]) -> Any:
    """The object of a description, as it is: merging equal parts, and threads, cost more than they spare."""
    import mitsuba

    return mitsuba.load_dict(description, parallel=False, optimize=False)
