"""loss.png: the loss over the pictures that the engine drew."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inverse.recovery import Recovery, Step
from inverse.report.comparison import decibels
from inverse.report.marks import colour_of
from scenes.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_loss(recovery: Recovery, path: Path) -> None:
    """Write the loss over the pictures that the engine drew, the stages of the work marked.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), dpi=100, layout="constrained")
    ax = figure.subplots()
    draw_loss(ax, recovery)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def draw_loss(ax: "Axes", recovery: Recovery) -> None:
    """Draw each scene's loss and the best so far, the stages of the work behind them."""
    steps = steps_of(recovery)
    set_up_axes(ax, steps)
    renders, loss = [s.renders for s in steps], [s.loss for s in steps]
    ax.plot(renders, loss, linestyle="", color="grey", marker=".", label="a scene tried")
    ax.step(renders, best_so_far(steps), where="post", color="black", linewidth=1.5, label="the best so far")
    ax.set_title(f"{recovery.renders} pictures, {recovery.seconds:.1f} s, {decibels(recovery.psnr)}")


def set_up_axes(ax: "Axes", steps: Sequence[Step]) -> None:
    """Scales and labels for the losses of these steps, and a band for each stage."""
    renders, loss = [s.renders for s in steps], [s.loss for s in steps]
    if min(loss) > 0 and max(loss) > 10 * min(loss):
        ax.set_yscale("log")
    colours = {stage: colour_of(k) for k, stage in enumerate(dict.fromkeys(s.stage for s in steps))}
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


def steps_of(recovery: Recovery) -> Sequence[Step]:
    """The steps on the way; where none were kept, the result alone."""
    return recovery.history or (Step("result", recovery.loss, recovery.renders, recovery.seconds),)


def best_so_far(steps: Sequence[Step]) -> list[float]:
    """The least loss up to each step."""
    return list(itertools.accumulate((s.loss for s in steps), min))
