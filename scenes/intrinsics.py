"""Intrinsics: a pinhole camera's file, {"width", "height", "fx", "fy", "cx", "cy"} in pixels."""

import difflib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

EXAMPLE = '{"width": 640, "height": 480, "fx": 570.0, "fy": 570.0, "cx": 320.0, "cy": 240.0}'


class IntrinsicsError(ValueError):
    """A camera file cannot be used; the message names file, key and what is allowed."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; the pixel in row i, column j is centred at (j + 0.5, i + 0.5).

    A point x to the right, y below and z in front of the camera is seen at (fx x / z + cx, fy y / z + cy);
    the picture covers [0, width] x [0, height].
    """

    width: int  # [px]
    height: int  # [px]
    fx: float  # [px]
    fy: float  # [px]
    cx: float  # [px]
    cy: float  # [px]

    @staticmethod
    def from_fov(width: int, height: int, fov_y_degrees: float) -> "Intrinsics":
        """Square pixels, the axis through the picture's middle, `fov_y_degrees` from top to bottom edge.

        Raises:
            IntrinsicsError: If the angle does not lie between 0 and 180 degrees.
        """
        if not 0.0 < fov_y_degrees < 180.0:
            raise IntrinsicsError(
                f"the field of view must lie between 0 and 180 degrees, got {fov_y_degrees:g}"
            )
        focal = height / 2 / math.tan(math.radians(fov_y_degrees) / 2)
        return Intrinsics(width, height, focal, focal, width / 2, height / 2)


def read_intrinsics(path: Path | str) -> Intrinsics:
    """The camera in a JSON file; keys beside the six are refused.

    Raises:
        IntrinsicsError: If the file cannot be read, or a value is missing, unknown or out of range.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IntrinsicsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise IntrinsicsError(f"{path}: is no JSON ({error}); a camera file looks like {EXAMPLE}") from None
    keys = [f.name for f in fields(Intrinsics)]
    if not isinstance(content, dict):
        raise IntrinsicsError(f"{path}: must hold one object such as {EXAMPLE}")
    for key in content:
        if key not in keys:
            close = difflib.get_close_matches(key, keys, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise IntrinsicsError(f"{path}: unknown key {key!r}{hint}; a camera file has {', '.join(keys)}")
    for key in keys:
        if key not in content:
            raise IntrinsicsError(f"{path}: {key} is missing; a camera file looks like {EXAMPLE}")
        value = content[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise IntrinsicsError(f"{path}: {key} must be a number, got {value!r}")
        if key not in ("cx", "cy") and value <= 0:
            raise IntrinsicsError(f"{path}: {key} must be above 0, got {value!r}")
        if key in ("width", "height") and value != int(value):
            raise IntrinsicsError(f"{path}: {key} must be a whole number of pixels, got {value!r}")
    width, height = int(content["width"]), int(content["height"])
    return Intrinsics(width, height, *(float(content[k]) for k in keys[2:]))
