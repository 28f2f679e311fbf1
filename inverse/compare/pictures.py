"""A comparison as pictures: success against cost, and a page of what each strategy sees and returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse.candidates import Pinhole
from inverse.compare.problems import Problems
from inverse.compare.race import Budget
from inverse.compare.result import Result
from scenes import Scene, World
from scenes.files import atomic
from scenes.scene import matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST = 0.2  # of the picture's height: the longest arrow of the differences
_CLIP = 1.2  # bars beyond this many times the differences' largest are cut off
_STRONG = "#ff5a00"
_COLUMNS = (
    "the picture to explain",
    "what it sees at the start",
    "where it wants to go",
    "its gradient (grey, and white arrows: the engine's differences)",
    "a race: to explain",
    "where it ended",
)


@dataclass(frozen=True, eq=False)
class Start:
    """Where the gradients of the page are taken.

    Attributes:
        problem: One problem.
        drawn: The engine's picture of its start.
        reference: The gradient by central differences, in units of `steps`, [P].
        steps: `pixel_steps` of the start, [P].
    """

    problem: Problems
    drawn: Float[Tensor, "row column 3"]
    reference: Float[Tensor, "parameter"]
    steps: Float[Tensor, "parameter"]


@dataclass(frozen=True, eq=False)
class View:
    """What the page shows of one strategy; None where it has no such thing.

    Attributes:
        name: The strategy's.
        seen: The picture that its gradient is of, at the start.
        gradient: In units of `Start.steps`, [P].
        end: A picture to explain in a race, and the engine's of where that race ended.
    """

    name: str
    seen: Float[Tensor, "row column 3"] | None = None
    gradient: Float[Tensor, "parameter"] | None = None
    end: tuple[Float[Tensor, "row column 3"], Float[Tensor, "row column 3"]] | None = None


def write_curves(results: list[Result], budgets: list[Budget], path: Path) -> None:
    """Write the share of problems that are right, against pictures drawn and against seconds.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(budgets), 4.4), dpi=100, layout="constrained")
    for ax, budget in zip(np.atleast_1d(figure.subplots(1, len(budgets), sharey=True)), budgets, strict=True):
        for k, result in enumerate(results):
            if budget.of in result.races:
                spent, right = np.array(result.races[budget.of].laps).T
                ax.step(
                    spent,
                    right + 0.004 * k,  # so that equal curves do not hide one another
                    ("-", "--", ":")[k // 10 % 3],
                    where="post",
                    color=f"C{k % 10}",
                    label=result.name,
                    linewidth=1.8,
                )
        ax.set_xlim(0, budget.amount)
        ax.set_ylim(-0.02, 1.07)
        ax.grid(alpha=0.3)
        what = "pictures drawn" if budget.of == "renders" else "seconds"
        ax.set_xlabel(f"{what} per problem")
    figure.axes[0].set_ylabel("share of the problems that are right")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary)


def write_page(start: Start, views: list[View], path: Path) -> None:
    """Write what each strategy sees and returns, one row for each.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15.5, 2.5 * len(views) + 0.8), dpi=80, layout="constrained")
    grid = figure.subplots(len(views), 6, width_ratios=[1, 1, 1, 2.4, 1, 1], squeeze=False)
    for ax, title in zip(grid[0], _COLUMNS, strict=True):
        ax.set_title(title, fontsize=11)
    for row, view in zip(grid, views, strict=True):
        row[0].set_ylabel(view.name, fontsize=12)
        _show(row[0], start.problem.picture[0])
        _show(row[1], view.seen, "asks for losses only")
        _show(row[2], start.drawn)
        _arrows(row[2], start, start.reference, "white")
        if view.gradient is not None:
            _arrows(row[2], start, view.gradient, _STRONG)
        _bars(row[3], start, view.gradient)
        _show(row[4], view.end and view.end[0])
        _show(row[5], view.end and view.end[1])
    for row in grid[:-1]:
        row[3].set_xticklabels([])
    with atomic(path) as temporary:
        figure.savefig(temporary)


def _show(ax: "Axes", picture: Tensor | None, otherwise: str = "") -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    if picture is None:
        ax.text(0.5, 0.5, otherwise, ha="center", va="center", transform=ax.transAxes, fontsize=9)
        ax.set_frame_on(False)
    else:
        ax.imshow(picture.clamp(0.0, 1.0).numpy(), interpolation="nearest")


def _arrows(ax: "Axes", start: Start, gradient: Float[Tensor, "parameter"], colour: str) -> None:
    """Downhill of each object's position, on the screen; lengths on the scale of the differences' longest."""
    size = (start.problem.picture.shape[1], start.problem.picture.shape[2])
    longest = float(_motion(start, start.reference, size)[1].norm(dim=-1).max())
    if longest == 0.0:
        return
    base, motion = _motion(start, gradient, size)
    motion = motion * (_LONGEST * size[0] / longest)
    most = 2.0 * _LONGEST * size[0] / motion.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    for (x, y), (dx, dy) in zip(base.tolist(), (motion * most.clamp(max=1.0)).tolist(), strict=True):
        if abs(dx) + abs(dy) > 0.3:
            ax.annotate(
                "",
                (x + dx - 0.5, y + dy - 0.5),
                (x - 0.5, y - 0.5),
                arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.2, "shrinkA": 0, "shrinkB": 0},
            )


def _motion(
    start: Start, gradient: Float[Tensor, "parameter"], size: tuple[int, int]
) -> tuple[Float[Tensor, "slot 2"], Float[Tensor, "slot 2"]]:
    """Where objects are [px], and how a step down the gradient of their positions moves them there."""
    world, scene = start.problem.world, start.problem.start
    theta = world.pack(scene)
    places = torch.tensor([group == "position" for group in world.groups])
    step = torch.where(places, -gradient * start.steps, 0.0)
    tiny = 1e-3 / step.abs().max().clamp_min(1e-12)
    here = _centres(world, scene, size)
    there = _centres(world, world.unpack(theta + tiny * step, like=scene), size)
    filled = scene.asset[0] >= 0
    return here[filled], ((there - here) / tiny)[filled]


def _centres(world: World, scene: Scene, size: tuple[int, int]) -> Float[Tensor, "slot 2"]:
    """The middles of the objects on the screen [px]."""
    camera = Pinhole.of(scene.camera).at(size)
    middle = torch.stack(
        [torch.from_numpy(world.assets[max(0, a)].centre).float() for a in scene.asset[0].tolist()]
    )
    turned = (matrix(scene.rotation[0]) @ (middle * scene.scale[0, :, None])[..., None])[..., 0]
    x, y, z = ((turned + scene.translation[0] - camera.eye) @ camera.rotation.T).unbind(-1)
    z = z.clamp(max=-1e-6)
    return torch.stack(
        [camera.centre[0] - camera.focal[0] * x / z, camera.centre[1] + camera.focal[1] * y / z], -1
    )


def _bars(ax: "Axes", start: Start, gradient: Float[Tensor, "parameter"] | None) -> None:
    """Each active entry of theta: the differences', and the strategy's beside it."""
    world, reference = start.problem.world, start.reference
    active = world.active(start.problem.start)[0].nonzero()[:, 0].tolist()
    scale = float(reference[active].abs().max().clamp_min(1e-12))
    at = np.arange(len(active))
    ax.bar(at - 0.2, (reference[active] / scale).numpy(), 0.4, color="0.6")
    if gradient is not None:
        values = (gradient[active] / scale).clamp(-_CLIP, _CLIP).numpy()
        ax.bar(at + 0.2, values, 0.4, color=_STRONG)
    ax.axhline(0.0, color="black", linewidth=0.6)
    ax.set_ylim(-1.3, 1.3)
    names = [world.names[i].removeprefix("object") for i in active]
    ax.set_xticks(at, names, rotation=90, fontsize=6)
    ax.set_yticks([])
