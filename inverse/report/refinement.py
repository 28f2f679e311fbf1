"""refinement.gif: the picture, the scenes tried one after another, and the loss as it falls."""

import io
import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from inverse.picture import levels
from inverse.recovery import Recovery, Step
from inverse.report.loss import best_so_far, set_up_axes, steps_of
from scenes.files import atomic

GIF_BYTES = 1_500_000  # a gif above this size is made again with fewer frames; report.html holds it too
GIF_FRAMES = 48
PICTURE_HEIGHT = 256  # [px] of the pictures in it
_STRIP = 24  # [px] above them, with their names
_GAP = 8  # [px] between them
_CURVE_WIDTH = 340  # [px]


def write_refinement(recovery: Recovery, path: Path) -> None:
    """Write the scenes tried beside the picture and the loss, as an animation that ends on the result.

    Raises:
        OutputError: If the file cannot be written.
    """
    data = animation(recovery)
    with atomic(path) as temporary:
        temporary.write_bytes(data)


@lru_cache(maxsize=1)  # report.html shows what refinement.gif holds
def animation(recovery: Recovery) -> bytes:
    """The animation as a .gif of at most about `GIF_BYTES`."""
    images, reached = _way(recovery)
    curve = _Curve(steps_of(recovery))
    picture = _enlarged(recovery.picture)
    count = min(GIF_FRAMES, len(images))
    while True:
        chosen = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))
        frames = [_strip(picture, _enlarged(images[k]), curve.until(reached[k])) for k in chosen]
        data = _gif(frames)
        if len(data) <= GIF_BYTES or count <= 2:
            return data
        count = max(int(0.9 * count * GIF_BYTES / len(data)), 2)


def _gif(frames: Sequence[UInt8[np.ndarray, "row column 3"]]) -> bytes:
    """The frames with one palette for all, so that what stands still costs nothing."""
    from PIL import Image

    some = np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])
    palette = Image.fromarray(some).quantize(256, dither=Image.Dither.NONE)
    first, *others = (Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    durations = [120] * len(others) + [2000]  # [ms]
    written = io.BytesIO()
    first.save(written, "gif", save_all=True, append_images=others, duration=durations, loop=0)
    return written.getvalue()


def _way(recovery: Recovery) -> tuple[Sequence[Tensor], Sequence[int]]:
    """The pictures of the scenes tried, the result last, and how many steps had been taken by each."""
    total = len(steps_of(recovery))
    reached = np.linspace(1, total, len(recovery.frames)).round().astype(int).tolist()
    return [*recovery.frames, recovery.image], [*reached, total]


class _Curve:
    """The loss as a picture: its axes are drawn once, only what grows is drawn anew."""

    def __init__(self, steps: Sequence[Step]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.renders, self.best = [s.renders for s in steps], best_so_far(steps)
        self.loss = [s.loss for s in steps]
        size = (_CURVE_WIDTH / 100, (PICTURE_HEIGHT + _STRIP) / 100)  # [inch]
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        self.canvas, self.ax = FigureCanvasAgg(figure), figure.subplots()
        set_up_axes(self.ax, steps)
        (self.tried,) = self.ax.plot(self.renders, self.loss, ".", color="grey", animated=True)
        (self.line,) = self.ax.step(self.renders, self.best, where="post", color="black", animated=True)
        (self.now,) = self.ax.plot([], [], "o", color="#d62728", animated=True)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(figure.bbox)

    def until(self, step: int) -> UInt8[np.ndarray, "row column 3"]:
        """The curve of the first `step` steps."""
        self.tried.set_data(self.renders[:step], self.loss[:step])
        self.line.set_data(self.renders[:step], self.best[:step])
        self.now.set_data(self.renders[step - 1 : step], self.loss[step - 1 : step])
        self.canvas.restore_region(self.background)
        for artist in (self.tried, self.line, self.now):
            self.ax.draw_artist(artist)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def _enlarged(rgb: Float[Tensor, "row column 3"]) -> UInt8[np.ndarray, "row column 3"]:
    """A picture at the animation's height."""
    from PIL import Image

    scale = PICTURE_HEIGHT / rgb.shape[0]
    size = (max(round(rgb.shape[1] * scale), 64), PICTURE_HEIGHT)
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(levels(rgb)).resize(size, resampling))


def _strip(*panels: UInt8[np.ndarray, "row column 3"]) -> UInt8[np.ndarray, "row column 3"]:
    """Picture, scene and curve side by side; the first two under their names."""
    from PIL import Image, ImageDraw

    lefts = list(itertools.accumulate((p.shape[1] + _GAP for p in panels), initial=0))
    canvas = Image.new("RGB", (lefts[-1] - _GAP, PICTURE_HEIGHT + _STRIP), "white")
    draw = ImageDraw.Draw(canvas)
    for left, panel in zip(lefts, panels, strict=False):
        canvas.paste(Image.fromarray(panel), (left, canvas.height - panel.shape[0]))
    for left, name in zip(lefts, ("picture", "recovered"), strict=False):
        draw.text((left + 4, 4), name, fill="black", font_size=14)
    return np.asarray(canvas)
