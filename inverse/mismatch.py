"""Mismatch: where a fit's picture is wrong by more than the noise, object by object and away from all."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inverse.least_differences import Fit
from inverse.losses import Evidence, covered, noise_floor
from inverse.window import grown

_RIM = 4  # [px] how far beside an object what is wrong is its own
_WRONG = 0.02  # share of an object's pixels that may be wrong
_QUITE = 0.25  # the same above which it is read anew before anything else is tried
_CROWD = 20.0  # wrong pixels that in one place are no object's own error, whatever its size


class Mismatch:
    """Wrong pixels above the noise of one picture.

    Attributes:
        floor: Wrong pixels that noise gives each pixel; infinite until it is measured.

    Args:
        evidence: The picture.
        slots: Of its scenes.
        price: Wrong pixels that one more object must save.
        trifle: Wrong pixels round one object that may be chance.
    """

    def __init__(self, evidence: Evidence, slots: int, *, price: float, trifle: float) -> None:
        self.evidence, self._count = evidence, slots
        self._price, self._trifle = price, trifle
        self.floor = math.inf

    def measure(self, fit: Fit) -> None:
        """Noise is never more than it once was: what a worse fit leaves over is not noise."""
        self.floor = min(self.floor, noise_floor(fit.image - self.evidence.image, self.evidence.tau))

    def excess(self, fit: Fit) -> float:
        """Wrong pixels above the noise."""
        return fit.total - self.floor * fit.cost.numel()

    def agrees(self, fit: Fit) -> bool:
        """True where no object, and no other place, is wrong. A little may be wrong everywhere."""
        return not (self.wrong(fit) or self.misses(fit))

    def slots(self, fit: Fit) -> list[int]:
        """Filled slots, the one with most wrong round it first."""
        return list(self._nears(fit))

    def near(self, fit: Fit, slot: int) -> float:
        """Wrong pixels above the noise on a slot's visible pixels and just beside them."""
        return float((fit.cost - self.floor)[grown(fit.instance_id == slot, _RIM)].sum())

    def is_wrong(self, fit: Fit, slot: int) -> bool:
        """True where the picture contradicts a slot's object; one that is wholly hidden it does not."""
        return self._contradicted(fit, slot, self.near(fit, slot))

    def wrong(self, fit: Fit) -> dict[int, float]:
        """Wrong pixels near each slot that the picture contradicts, the worst first."""
        return {s: near for s, near in self._nears(fit).items() if self._contradicted(fit, s, near)}

    def quite_wrong(self, fit: Fit) -> dict[int, float]:
        """The same where so many are that least differences may lose their way."""
        return {s: near for s, near in self.wrong(fit).items() if near > _QUITE * _shown(fit, s)}

    def _nears(self, fit: Fit) -> dict[int, float]:
        """Wrong pixels near each filled slot, the worst first."""
        filled = (fit.scene.asset[0] >= 0).nonzero()[:, 0].tolist()
        nears = {slot: self.near(fit, slot) for slot in filled}
        return dict(sorted(nears.items(), key=lambda item: -item[1]))

    def _contradicted(self, fit: Fit, slot: int, near: float) -> bool:
        return near > max(self._trifle, _WRONG * _shown(fit, slot))

    def misses(self, fit: Fit) -> bool:
        """True where an object seems to be missing: much is wrong in one place, away from others or not."""
        return self.crowd(self.elsewhere(fit)) > self._price or self.crowd(fit.cost - self.floor) > _CROWD

    def crowd(self, wrong: Float[Tensor, "height width"]) -> float:
        """Wrong pixels in the place, an eighth of the picture's side, where most are."""
        side = max(1, max(self.evidence.size) // 8)
        sums = side**2 * F.avg_pool2d(wrong[None, None], side, stride=max(1, side // 4))
        return float(sums.max())

    def elsewhere(self, fit: Fit, rim: int = _RIM) -> Float[Tensor, "height width"]:
        """How wrong each pixel is, above the noise, that is away from all objects by more than a rim [px]."""
        near = grown(covered(fit.instance_id, self._count), rim)
        return torch.where(near, 0.0, fit.cost - self.floor)


def _shown(fit: Fit, slot: int) -> float:
    """Visible pixels of a slot's object."""
    return float((fit.instance_id == slot).sum())
