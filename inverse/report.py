"""The pictures that a recovery is shown with: comparison.png, refinement.gif, loss.png."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from inverse.files import atomic
from inverse.picture import levels
from inverse.recovery import Recovery, Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GIF_BYTES = 2_000_000  # a gif above this size is made again with fewer frames
GIF_FRAMES = 48
_COLOURS = ("#ff7f0e", "#17becf", "#e377c2", "#bcbd22", "#2ca02c", "#9467bd", "#d62728", "#1f77b4")


def write_comparison(recovery: Recovery, path: Path) -> None:
    """Write picture | recovered | difference side by side, with the found objects outlined and named.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    height, width = recovery.picture.shape[:2]
    rows = math.ceil(max(len(recovery.objects), 1) / 3)
    panel = 4.0 * min(max(height / width, 0.3), 2.0)  # [inch]
    figure = Figure(figsize=(12.6, panel + 0.5 + 0.25 * rows), dpi=100, layout="constrained")
    axes = figure.subplots(1, 3)
    difference = (recovery.image - recovery.picture).abs().mean(-1)
    peak = float(difference.max())
    for ax, title in zip(
        axes,
        ("picture", f"recovered ({_psnr(recovery.psnr)})", f"difference (at most {peak:.2f})"),
        strict=True,
    ):
        ax.set_title(title)
        ax.set_axis_off()
    axes[0].imshow(levels(recovery.picture), interpolation="nearest")
    axes[1].imshow(levels(recovery.image), interpolation="nearest")
    shown = axes[2].imshow(
        difference.numpy(), cmap="magma", vmin=0.0, vmax=max(peak, 0.1), interpolation="nearest"
    )
    figure.colorbar(shown, ax=axes[2], shrink=0.7)
    lines = []
    for k, found in enumerate(recovery.objects):
        colour = _COLOURS[k % len(_COLOURS)]
        if recovery.instance_id is not None:
            _outline(axes[0], recovery.instance_id == found.slot, colour)
        seen = "" if found.visible_fraction is None else f", {found.visible_fraction:.0%} visible"
        lines.append(Line2D([], [], color=colour, linewidth=3, label=f"{found.asset}: {found.verdict}{seen}"))
    if lines:
        figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def write_refinement(recovery: Recovery, path: Path) -> None:
    """Write the best scene so far beside the picture, as an animation that ends on the result.

    Raises:
        OutputError: If the file cannot be written.
    """
    import imageio.v3 as imageio

    frames = [*recovery.frames, recovery.image]
    count = min(GIF_FRAMES, len(frames))
    while True:
        strips = [_side_by_side(recovery.picture, frame) for frame in _thinned(frames, count)]
        durations = [120] * (len(strips) - 1) + [2000] if len(strips) > 1 else 2000  # [ms]
        data = imageio.imwrite("<bytes>", strips, extension=".gif", duration=durations, loop=0)
        if len(data) <= GIF_BYTES or count <= 2:
            break
        count = max(int(0.9 * count * GIF_BYTES / len(data)), 2)
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_loss(recovery: Recovery, path: Path) -> None:
    """Write the loss over the pictures that the engine drew, the stages of the work marked.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    steps = recovery.history or (Step("result", recovery.loss, recovery.renders, recovery.seconds),)
    figure = Figure(figsize=(8.0, 4.5), dpi=100, layout="constrained")
    ax = figure.subplots()
    renders = [s.renders for s in steps]
    loss = [s.loss for s in steps]
    best = list(itertools.accumulate(loss, min))
    ax.plot(renders, loss, linestyle="", color="grey", marker=".", label="a scene tried")
    ax.step(renders, best, where="post", color="black", linewidth=1.5, label="the best so far")
    if min(loss) > 0 and max(loss) > 10 * min(loss):
        ax.set_yscale("log")
    colours = dict(zip(dict.fromkeys(s.stage for s in steps), itertools.cycle(_COLOURS), strict=False))
    named: set[str] = set()
    start = 0
    for stage, group in itertools.groupby(steps, key=lambda s: s.stage):
        end = list(group)[-1].renders
        label = stage if stage not in named else None
        ax.axvspan(start, end, color=colours[stage], alpha=0.2, linewidth=0, label=label)
        named.add(stage)
        start = end
    ax.set_xlim(0, max(max(renders), 1))
    ax.set_xlabel("pictures drawn by the engine")
    ax.set_ylabel("loss")
    ax.set_title(f"{recovery.renders} pictures, {recovery.seconds:.1f} s, {_psnr(recovery.psnr)}")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def _outline(ax: "Axes", mask: Bool[Tensor, "row column"], colour: str) -> None:
    """Draw the border of a mask; the mask is padded so that it closes at the picture's edge."""
    if not bool(mask.any()):
        return
    padded = torch.nn.functional.pad(mask.float(), (1, 1, 1, 1)).numpy()
    height, width = mask.shape
    ax.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        padded,
        levels=[0.5],
        colors=[colour],
        linewidths=2.0,
    )
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)


def _side_by_side(
    picture: Float[Tensor, "row column 3"], frame: Float[Tensor, "row column 3"]
) -> UInt8[np.ndarray, "row column 3"]:
    """Both pictures, about 256 pixels high, under a strip that names them."""
    from PIL import Image, ImageDraw

    scale = 256 / picture.shape[0]
    size = (max(round(picture.shape[1] * scale), 64), 256)
    canvas = Image.new("RGB", (2 * size[0] + 8, size[1] + 24), "white")
    draw = ImageDraw.Draw(canvas)
    for left, name, rgb in ((0, "picture", picture), (size[0] + 8, "recovered", frame)):
        resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
        image = Image.fromarray(levels(rgb)).resize(size, resampling)
        canvas.paste(image, (left, 24))
        draw.text((left + 4, 4), name, fill="black", font_size=14)
    return np.asarray(canvas)


def _thinned(frames: Sequence[Tensor], count: int) -> list[Tensor]:
    """At most `count` of the frames, evenly spaced, first and last among them."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    return [frames[i] for i in chosen]


def _psnr(psnr: float) -> str:
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "exact"
