"""How a picture changes with a scene: differences of the engine's pictures, each of the part that changes."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inverse.candidates import Pinhole
from inverse.directions import directions
from inverse.window import Window
from scenes import Scene, World, stack

if TYPE_CHECKING:
    from inverse.least_differences import Fit, Judge

SMOOTH = {"colour": 0.02, "light": 0.04, "background": 0.02}  # steps of entries that move no outline
TURNS = ("light.azimuth", "light.elevation")  # move the outlines of shadows
_TOUCHED = 0.03  # change of a pixel by an object's removal from which on it counts as the object's
_STILL = 0.2  # steps of a difference by which a part may move and keep its slopes
_RIM = 0.05  # share of the picture's longer side by which an object may move out of what it touched


@dataclass(frozen=True, eq=False)
class Slopes:
    """How a picture changes as its scene moves.

    Attributes:
        columns: Entries of theta.
        moves: How theta moves for each of them, see `directions`.
        values: Derivatives of the residual, flattened, by each move.
        theta: Where each of them was looked at.
        gained: Share of what was wrong that the last steps along them took away.
    """

    columns: Int[Tensor, "column"]
    moves: Float[Tensor, "column parameter"]
    values: Float[Tensor, "column residual"]
    theta: Float[Tensor, "column parameter"]
    gained: float = math.inf

    def of(self, columns: Int[Tensor, "column"]) -> bool:
        """True where they are of the same entries of theta, in any order."""
        return torch.equal(self.columns.sort().values, columns.sort().values)


@dataclass(frozen=True, eq=False)
class Part:
    """Entries of theta that change the same part of the picture: one object's, or what all share."""

    columns: Int[Tensor, "column"]
    window: Window


class Differences:
    """Slopes of one picture's scenes by differences of the engine's pictures.

    Central ones for what moves outlines, one-sided ones for colours and strengths of light. What belongs to
    one object is drawn no larger than what its removal changes, shadows included, and a rim: an object moves
    little from one look to the next. Its three tints take one picture, for each changes its own channel.
    Slopes of a part that has hardly moved since they were looked at are taken as they are.

    Args:
        judge: Draws.
        parts: See `parts_of`.
        pixels: Shift of outlines by a difference's step.
    """

    def __init__(self, judge: "Judge", parts: list[Part], pixels: float) -> None:
        self.judge, self.world, self.parts, self.pixels = judge, judge.world, parts, pixels
        self._smooth = torch.tensor(
            [g in SMOOTH and n not in TURNS for n, g in zip(self.world.names, self.world.groups, strict=True)]
        )

    def slopes(self, fit: "Fit", *, anew: bool = False) -> Slopes:
        """The slopes at a fit; with `anew` no part's are taken from those that it knows."""
        residual = self.judge.residual(fit.image, fit.instance_id)
        columns = torch.cat([p.columns for p in self.parts])
        moves = self._moves(fit.scene, columns)
        theta, values = self.world.pack(fit.scene)[0], torch.zeros(len(columns), *residual.shape)
        known = None if anew or fit.slopes is None or not fit.slopes.of(columns) else fit.slopes
        looked_at, first = theta.expand(len(columns), -1).clone(), 0
        for part in self.parts:
            some, here = slice(first, first + len(part.columns)), part.window.within(self.judge.window)
            first = some.stop
            if known is not None and len(same := _still(known, part.columns, theta)):
                values[some], moves[some] = known.values[same].view_as(values[some]), known.moves[same]
                looked_at[some] = known.theta[same]
                continue
            values[some, here.rows, here.columns] = self._of_part(
                part, fit.scene, theta, moves[some], here.cut(residual)
            )
        return Slopes(columns, moves, values.flatten(1), looked_at)

    def _moves(self, scene: Scene, columns: Tensor) -> Float[Tensor, "column parameter"]:
        """How theta moves for each of its columns."""
        judge, world = self.judge, self.world
        steps, view = judge.steps(scene, self.pixels), Pinhole.of(scene.camera).view(*judge.whole)
        return directions(world, judge.moves, scene, columns, steps, view, self.pixels)

    def _of_part(
        self, part: Part, scene: Scene, theta: Tensor, moves: Tensor, residual: Tensor
    ) -> Float[Tensor, "column height width channel"]:
        sets, rows = together(self.world, part.columns.tolist()), []
        smooth = self._smooth[part.columns]
        # one-sided differences go down where the range ends above
        over = (theta + moves)[:, part.columns].diagonal() > self.world.high[part.columns]
        sign = torch.where(smooth & over, -1.0, 1.0)
        for places in sets:
            step = sign[places] @ moves[places]
            rows += [theta + step] if smooth[places[0]] else [theta + step, theta - step]
        image, ids, _ = self.judge.draw(self.world.unpack(torch.stack(rows), like=scene), part.window)
        here = part.window.within(self.judge.window)
        pictures = iter(self.judge.residual(image, ids, here))
        slopes = torch.empty(len(moves), *residual.shape)
        for places in sets:
            change = next(pictures) - (residual if smooth[places[0]] else next(pictures))
            change = change if smooth[places[0]] else 0.5 * change
            for k in places:
                slopes[k] = sign[k] * change
                if len(places) > 1:
                    slopes[k] *= _channel(self.world, int(part.columns[k]), change.shape[-1])
        return slopes


def _still(known: Slopes, columns: Int[Tensor, "column"], theta: Float[Tensor, "parameter"]) -> Tensor:
    """Places of a part's columns among known slopes; none where it has moved."""
    places = (columns[:, None] == known.columns).int().argmax(1)
    shift = (theta - known.theta[places[0]])[columns]
    steps = torch.linalg.solve(known.moves[places][:, columns].T, shift)
    return places if float(steps.abs().max()) < _STILL else places[:0]


def parts_of(judge: "Judge", fit: "Fit", columns: Int[Tensor, "column"]) -> list[Part]:
    """Columns by object, with a window that holds what its removal changes; what all share comes first."""
    whole = judge.window
    slot = torch.tensor(judge.world.slot_of)[columns]
    slots = [s for s in slot.unique().tolist() if s >= 0]
    windows = {-1: whole}
    if slots:
        image, _, _ = judge.draw(stack([fit.scene.without(s) for s in slots]))
        touched = (image - fit.image).abs().amax(-1) > _TOUCHED
        rim = round(_RIM * max(whole.size))
        windows |= {s: Window.around(t, rim) for s, t in zip(slots, touched, strict=True)}
    return [Part(columns[slot == s], w) for s, w in windows.items() if bool((slot == s).any())]


def together(world: World, columns: list[int]) -> list[list[int]]:
    """Places of one object's columns in sets whose pictures tell them apart: its tints, and each other."""
    tints = [k for k, c in enumerate(columns) if world.groups[c] == "colour"]
    return [*[[k] for k in range(len(columns)) if k not in tints], *([tints] if tints else [])]


def _channel(world: World, column: int, channels: int) -> Float[Tensor, "channel"]:
    """1 for the channel that a tint changes."""
    return F.one_hot(torch.tensor("rgb".index(world.names[column].rsplit(".", 1)[1])), channels).float()
