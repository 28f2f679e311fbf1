"""From a picture to a scene: `recover`, and what it gives back; `explore`, to look at gradients.

Names are loaded when first asked for: the command line must answer `--help` without importing torch.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inverse.explorer import explore
    from inverse.picture import Picture, PictureError, read_mask, read_picture, write_picture
    from inverse.recover import recover
    from inverse.recovery import FoundObject, Hypothesis, Recovery, Step
    from inverse.recoveryfile import RecoveryFileError, load_start

_HOME = {
    "FoundObject": "recovery",
    "Hypothesis": "recovery",
    "Picture": "picture",
    "PictureError": "picture",
    "Recovery": "recovery",
    "RecoveryFileError": "recoveryfile",
    "Step": "recovery",
    "explore": "explorer",
    "load_start": "recoveryfile",
    "read_mask": "picture",
    "read_picture": "picture",
    "recover": "recover",
    "write_picture": "picture",
}

__all__ = [
    "FoundObject",
    "Hypothesis",
    "Picture",
    "PictureError",
    "Recovery",
    "RecoveryFileError",
    "Step",
    "explore",
    "load_start",
    "read_mask",
    "read_picture",
    "recover",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'inverse' has no attribute {name!r}")
    return getattr(importlib.import_module(f"inverse.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """All public names, loaded or not: what pydoc and completion go by."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package whose function `recover` is not replaced by the submodule of that name once it is loaded."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "recover" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
