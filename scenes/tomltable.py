"""Checked reading of one TOML table: every complaint names file, key, what was found and what is allowed."""

import difflib
import inspect
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scenes.world import Interval

RIGHT_ANGLE = 90.0
MOST_OBJECTS = 100


class WorldError(ValueError):
    """A world cannot be read; the message is one line: file, key, what was found and what is allowed."""


class Table:
    """One table of the file: hands out checked values and knows which keys nobody asked for."""

    def __init__(self, values: dict[str, Any], path: Path, name: str) -> None:
        self.values, self.path, self.name = values, path, name
        self.used: set[str] = set()

    def error(self, key: str, complaint: str) -> WorldError:
        """The error about `key`, in one line."""
        where = f"[{self.name}] {key}" if self.name else key
        return WorldError(f"{self.path}: {where} {complaint}")

    def wrong(self, key: str, found: object, allowed: str) -> WorldError:
        """The error for a value of `key` that is not allowed."""
        try:
            shown = json.dumps(found, default=str)
        except ValueError:
            shown = str(found)
        return self.error(
            key, f"is {shown if len(shown) < 120 else shown[:117] + '...'}, it must be {allowed}"
        )

    def take(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or the default; an error where there is neither."""
        self.used.add(key)
        if key in self.values:
            return self.values[key]
        if default is None:
            close = difflib.get_close_matches(key, [k for k in self.values if k not in self.used], 1)
            raise self.error(key, f"is missing; is {close[0]!r} misspelt?" if close else "is missing")
        return default

    def finish(self) -> None:
        """Complain about the first key that nobody asked for."""
        for key in self.values:
            if key not in self.used:
                known = sorted(self.used)
                raise self.error(
                    key, f"is an unknown key{nearest(key, known)}; the keys here are {', '.join(known)}"
                )

    def table(self, key: str) -> "Table":
        """The table [key]."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"a table, written [{key}]")
        return Table(value, self.path, key)

    def tables(self, key: str) -> list["Table"]:
        """The tables [[key]]; none where there are none."""
        value = self.take(key, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise self.wrong(key, value, f"one table or more, each written [[{key}]]")
        return [Table(v, self.path, f"{key} {v.get('name', i + 1)}") for i, v in enumerate(value)]

    def text(self, key: str, default: str | None = None) -> str:
        """A string; not an empty one where it is required."""
        value = self.take(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.wrong(key, value, "a text in quotes")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def choice(self, key: str, options: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.take(key)
        if value not in options:
            raise self.wrong(key, value, one_of(options) + nearest(value, options))
        return str(value)

    def whole(self, key: str, *, least: int, most: int) -> int:
        """A whole number."""
        value = self.take(key)
        if not _is_whole(value) or not least <= value <= most:
            raise self.wrong(key, value, f"a whole number from {least} to {most}")
        return int(value)

    def count(self, key: str) -> tuple[int, int]:
        """A whole number from 1 up, or a pair of them whose first may be 0."""
        value = self.take(key)
        pair = value if isinstance(value, list) and len(value) == 2 else [value, value]
        if (
            not all(_is_whole(v) for v in pair)
            or not 0 <= pair[0] <= pair[1]
            or not 1 <= pair[1] <= MOST_OBJECTS
        ):
            allowed = f"a whole number of objects from 1 to {MOST_OBJECTS}, or a pair [least, most]"
            raise self.wrong(key, value, allowed)
        return pair[0], pair[1]

    def number(
        self, key: str, default: float | None = None, *, least: float = -math.inf, above: float = -math.inf
    ) -> float:
        """A known number."""
        value = self.take(key, default)
        if not _is_number(value) or value < least or value <= above:
            raise self.wrong(key, value, f"a number{_limits(least, above, math.inf)}")
        return float(value)

    def numbers(self, key: str, count: int, default: list[float] | None = None) -> tuple[float, ...]:
        """Some known numbers."""
        value = self.take(key, default)
        if not isinstance(value, list) or len(value) != count or not all(_is_number(v) for v in value):
            raise self.wrong(key, value, f"a list of {count} numbers")
        return tuple(float(v) for v in value)

    def interval(
        self,
        key: str,
        default: float | None = None,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
    ) -> Interval:
        """A number or a pair [low, high]."""
        value = self.take(key, default)
        found = self._interval(key, value)
        if found.low < least or found.low <= above or found.high >= below:
            raise self.wrong(key, value, f"a number, or a pair [low, high],{_limits(least, above, below)}")
        return found

    def degrees(self, key: str, default: Any, most: float) -> Interval:
        """An angle or a pair of angles in degrees from -most to most, as radians.

        A right angle itself is left out: there the azimuth would mean nothing.
        """
        value = self.take(key, default)
        found = self._interval(key, value)
        size = max(-found.low, found.high)
        if size > most or (most == RIGHT_ANGLE and size == most):
            ends = " without its ends" if most == RIGHT_ANGLE else ""
            raise self.wrong(key, value, f"degrees from -{most:g} to {most:g}{ends}")
        return Interval(math.radians(found.low), math.radians(found.high))

    def colour(self, key: str, default: Any = None) -> tuple[Interval, Interval, Interval]:
        """Three numbers or pairs from 0 to 1."""
        value = self.take(key, default)
        allowed = "three linear numbers [r, g, b] from 0 to 1, each a number or a pair [low, high]"
        if not isinstance(value, list) or len(value) != 3:
            raise self.wrong(key, value, allowed)
        r, g, b = (self._interval(key, v) for v in value)
        if min(r.low, g.low, b.low) < 0 or max(r.high, g.high, b.high) > 1:
            raise self.wrong(key, value, allowed)
        return r, g, b

    def known_colour(self, key: str) -> list[float]:
        """Three known numbers from 0 to 1."""
        value = self.take(key)
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not all(_is_number(v) and 0 <= v <= 1 for v in value)
        ):
            raise self.wrong(key, value, '"free", or three linear numbers [r, g, b] from 0 to 1')
        return [float(v) for v in value]

    def call(self, function: Callable[..., Any], arguments: dict[str, Any], what: str) -> Any:
        """The function's result for this table's own keys; its complaints become this file's."""
        known = tuple(inspect.signature(function).parameters)
        for key in arguments:
            if key not in known:
                hint = nearest(key, [*known, *self.used])
                raise self.error(key, f"is an unknown key{hint}; {what} takes {', '.join(known)}")
        self.used |= set(arguments)
        try:
            return function(**arguments)
        except (TypeError, ValueError, IndexError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise WorldError(f"{self.path}: [{self.name}] {what} cannot be made: {reason}") from None

    def _interval(self, key: str, value: Any) -> Interval:
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(_is_number(v) for v in pair):
            raise self.wrong(key, value, "a number, or a pair [low, high] where it is unknown")
        if pair[0] > pair[1]:
            raise self.wrong(key, value, "a pair [low, high] with low <= high: this range is empty")
        return Interval(float(pair[0]), float(pair[1]))


def nearest(word: object, options: Iterable[str]) -> str:
    """A hint at the option that `word` may have meant; "" where none is near."""
    close = difflib.get_close_matches(str(word), list(options), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(options: Iterable[str]) -> str:
    """The options as a phrase."""
    return "one of " + ", ".join(f'"{o}"' for o in options)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _limits(least: float, above: float, below: float) -> str:
    parts = []
    if least > -math.inf:
        parts.append(f" at least {least:g}")
    if above > -math.inf:
        parts.append(f" above {above:g}")
    if below < math.inf:
        parts.append(f" below {below:g}")
    return " and".join(parts)
