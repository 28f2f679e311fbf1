"""comparison.png: the picture, what was recovered from it, and the difference."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from inverse.recovery import FoundObject, Recovery
from inverse.report.marks import colour_of, draw_found, show
from scenes.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def write_comparison(recovery: Recovery, path: Path) -> None:
    """Write picture | recovered | difference side by side; in the picture the found objects are marked.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = recovery.picture.shape[:2]
    rows = math.ceil(max(len(recovery.objects), 1) / 3)
    panel = 4.0 * min(max(height / width, 0.3), 2.0)  # [inch]
    figure = Figure(figsize=(12.6, panel + 0.5 + 0.25 * rows), dpi=100, layout="constrained")
    found, recovered, difference = figure.subplots(1, 3)
    draw_found(found, recovery)
    found.set_title("picture, found objects marked")
    show(recovered, recovery.image)
    recovered.set_title(f"recovered ({decibels(recovery.psnr)})")
    shown = draw_difference(difference, recovery)
    figure.colorbar(shown, ax=difference, shrink=0.7)
    if recovery.objects:
        patches = [
            Patch(facecolor=f"{colour_of(k)}40", edgecolor=colour_of(k), linewidth=2, label=_caption(one))
            for k, one in enumerate(recovery.objects)
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def draw_difference(ax: "Axes", recovery: Recovery) -> "AxesImage":
    """Draw by how much each pixel differs, mean of the channels; at least 0.1 is white."""
    difference = (recovery.image - recovery.picture).abs().mean(-1)
    peak = float(difference.max())
    ax.set_title(f"difference (at most {peak:.2f})")
    ax.set_axis_off()
    return ax.imshow(difference.numpy(), cmap="magma", vmin=0.0, vmax=max(peak, 0.1), interpolation="nearest")


def decibels(psnr: float) -> str:
    """A peak signal-to-noise ratio in words."""
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "exact"


def _caption(found: FoundObject) -> str:
    seen = "" if found.visible_fraction is None else f", {found.visible_fraction:.0%} visible"
    return f"{found.asset}: {found.verdict}{seen}"
