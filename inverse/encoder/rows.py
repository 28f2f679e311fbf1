"""Tensors that belong together, a row of each for every object."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self", bound="Rows")  # typing has its own from Python 3.11 on


class Rows:
    """What a dataclass of tensors, or of other `Rows`, can do with all of them at once."""

    def __getitem__(self: Self, index: Tensor) -> Self:
        """The rows at `index`."""
        return self._map(lambda t: t[index])

    def to(self: Self, device: torch.device | str) -> Self:
        """The same on another device."""
        return self._map(lambda t: t.to(device))

    def _map(self: Self, change: Callable[[Any], Any]) -> Self:
        return type(self)(*(change(getattr(self, f.name)) for f in fields(self)))  # type: ignore[arg-type]  # those who inherit are dataclasses
