"""Figures: how good the encoder's scenes are, over many pictures."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from inverse.metrics import rotation_error
from scenes import Scene, World
from scenes.scene import matrix

COUNTED_PIXELS = 40  # of an object at 128 x 128 px; fewer are neither asked for nor held against anybody
_NEAR = 0.08  # share of the distance within which an object found is the one that is there


@dataclass
class Figures:
    """Counts and errors, gathered picture by picture.

    Attributes:
        found, missed, invented: Objects.
        right: Of those found, with the right asset.
        position: Errors of those found, share of the distance from the eye.
        rotation: Errors [rad] of those found with the right asset, symmetry taken out.
        scale: Relative errors. colour: mean absolute errors in linear light.
    """

    found: int = 0
    missed: int = 0
    invented: int = 0
    right: int = 0
    position: list[float] = field(default_factory=list)
    rotation: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    colour: list[float] = field(default_factory=list)

    def add(self, world: World, truth: Scene, visible: Tensor, guess: Scene, *, counted: float) -> None:
        """Compare one scene with another.

        Args:
            world: Of both.
            truth: One scene.
            visible: Pixels in which each of its slots is seen, [S].
            guess: One scene.
            counted: Least number of such pixels of an object that is asked for.
        """
        there = (truth.asset[0] >= 0).nonzero()[:, 0]
        given = (guess.asset[0] >= 0).nonzero()[:, 0]
        distance = (truth.translation[0, there] - truth.camera.translation).norm(dim=-1)
        apart = torch.cdist(guess.translation[0, given], truth.translation[0, there]) / distance
        rows, columns = linear_sum_assignment(apart.clamp(max=3.0 * _NEAR).numpy())
        pairs = [
            (int(given[r]), int(there[c])) for r, c in zip(rows, columns, strict=True) if apart[r, c] < _NEAR
        ]
        asked = {int(s) for s in there if visible[s] >= counted}
        self.found += sum(t in asked for _, t in pairs)
        self.missed += len(asked - {t for _, t in pairs})
        self.invented += len(given) - len(pairs)
        share = {int(s): float(d) for s, d in zip(there, distance, strict=True)}
        for g, t in pairs:
            if t in asked:
                self._add_pair(world, truth, t, guess, g, share[t])

    def _add_pair(self, world: World, truth: Scene, t: int, guess: Scene, g: int, distance: float) -> None:
        self.position.append(float((truth.translation[0, t] - guess.translation[0, g]).norm()) / distance)
        self.scale.append(abs(float(guess.scale[0, g] / truth.scale[0, t]) - 1.0))
        if truth.asset[0, t] != guess.asset[0, g]:
            return
        self.right += 1
        asset = world.assets[int(truth.asset[0, t])]
        if asset.colour_free:
            self.colour.append(float((truth.colour[0, t] - guess.colour[0, g]).abs().mean()))
        if not asset.symmetry.sphere and asset.symmetry.axis is None:
            error = rotation_error(asset, matrix(guess.rotation[0, g]), matrix(truth.rotation[0, t]))
            self.rotation.append(float(error))

    def summary(self) -> dict[str, float]:
        """F1 of presence, share of right assets, medians of the errors."""
        shown = 2 * self.found + self.missed + self.invented
        return {
            "F1": 2 * self.found / max(1, shown),
            "asset": self.right / max(1, self.found),
            "position_percent": 100.0 * _median(self.position),
            "rotation_degrees": math.degrees(_median(self.rotation)),
            "scale_percent": 100.0 * _median(self.scale),
            "colour": _median(self.colour),
        }


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan
