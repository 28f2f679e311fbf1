"""Proposals: objects that would explain what is wrong in a picture, found and refined as sketches."""

import math
from dataclasses import replace
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inverse.bank import Bank, drawn, spread
from inverse.candidates import Candidates, Moves, Pinhole, clear
from inverse.least_differences import Fit, Judge
from inverse.losses import resize
from inverse.shadows import thrown
from inverse.sketch import Lamp, Rest, Sketcher, Target
from inverse.sketch_refine import Level, refine, window_for
from scenes import Scene

_CANDIDATES = 40  # taken from the bank per birth
_FINALISTS = 16  # of those, refined at the finer size
_ALIKE = 3  # of one asset among them, and of each where fewer explain anything
_NEAR = 24  # of one object's variants, refined at the coarser size
_MANY = 12_000  # candidates over what is wrong that are scored at all
# Of tau in coarse pictures, which draws what is a little beside its place there (Blake and Zisserman 1987).
_WIDENING = 2.0
_REACHES = (2, 4, 8, 16)  # [px] of the bank's pictures, between an object's middle and what it explains
_LOCAL = 3000  # candidates scored at twice the bank's size


class Proposals:
    """Proposes objects for one picture, from a bank of sketches.

    Args:
        judge: Of the picture.
        sketcher: Of the judge's world.
        seed: Turns the bank's grid of rotations.
    """

    def __init__(self, judge: Judge, sketcher: Sketcher, *, seed: int = 0) -> None:
        self.judge, self.world, self.sketcher, self.seed = judge, judge.world, sketcher, seed
        self.moves: Moves = judge.moves
        self.evidence = judge.evidence
        height, width = self.evidence.size
        self.half, self.quarter = (height // 2, width // 2), (height // 4, width // 4)
        self._made: Bank | None = None

    @property
    def begun(self) -> bool:
        """True once the bank is made."""
        return self._made is not None

    def lamp(self, scene: Scene) -> Lamp:
        """The scene's light in camera axes."""
        direction = Pinhole.of(scene.camera).rotation @ scene.light.direction[0]
        return Lamp(direction, float(scene.light.intensity[0]), float(scene.light.ambient[0]))

    @cached_property
    def reach(self) -> float:
        """Largest extent [m] of the box of positions."""
        return max(i.high - i.low for i in self.world.position) or 1.0

    def bank(self, scene: Scene) -> Bank:
        """All candidates for the scene's camera, made when first asked for."""
        if self._made is None:
            pinhole = Pinhole.of(scene.camera)
            self._made = Bank(
                self.sketcher, self.world, self.moves, pinhole, pinhole.view(*self.quarter), seed=self.seed
            )
        return self._made

    def target(self, size: tuple[int, int]) -> Target:
        """The picture as sketches are compared with it, in H x W pixels."""
        e = self.evidence.resized(size)
        mask = torch.zeros(size) if e.mask is None else e.mask
        return Target(
            e.image.contiguous(), mask.contiguous(), 0.0 if e.mask is None else e.mask_weight, e.tau
        )

    def rest(self, scenes: Scene, size: tuple[int, int]) -> Rest:
        """The engine's picture of scenes as what a sketch is laid over, at a smaller size."""
        image, inverse = self.judge.behind(scenes)
        if size != self.evidence.size:
            k = self.evidence.size[0] // size[0]
            image = resize(image, size)
            inverse = -F.max_pool2d(-inverse[:, None], k)[:, 0]
        shadow = thrown(self.sketcher, self.moves, scenes, self.lamp(scenes), size)
        return Rest(image.contiguous(), inverse.contiguous(), shadow)

    def _level(self, scene: Scene, fine: bool) -> Level:
        pinhole = Pinhole.of(scene.camera)
        size = self.evidence.size if fine else self.half
        target = self.target(size)
        target = target if fine else replace(target, tau=_WIDENING * target.tau)
        return Level(pinhole.view(*size), target, 2, coarse=not fine)

    def _tint(self, c: Candidates, encoded: Float[Tensor, "candidate 3"]) -> Float[Tensor, "candidate 3"]:
        """Linear tints from sketches' encoded ones, white where the asset has none."""
        low = torch.tensor([i.low for i in self.world.colour])
        high = torch.tensor([i.high for i in self.world.colour])
        linear = torch.maximum(torch.minimum(encoded.clamp_min(0.0) ** 2.2, high), low)
        free = torch.tensor([a.colour_free for a in self.world.assets])[c.asset]
        return torch.where(free[:, None], linear, torch.ones_like(linear))

    def propose(
        self, fit: Fit, *, near: Tensor | None = None, wrong: Tensor | None = None, hidden: bool = False
    ) -> tuple[Candidates, Tensor, Tensor]:
        """Objects that would explain what is wrong: candidates, linear tints, change of wrong pixels.

        Args:
            fit: What is explained already.
            near: Only objects over these pixels, [H, W].
            wrong: How wrong each pixel is, [H, W]: only objects over those that are. These, as those `near`,
                are scored at twice the size.
            hidden: True for objects of which only a rim may be over those pixels. They are scored at the
                bank's own size, where it matters less that they are a little beside their place.
        """
        lamp, bank, over = self.lamp(fit.scene), self.bank(fit.scene), wrong
        pool, cell, turn = bank.candidates, 0.08 * self.reach, math.pi
        free = clear(self.world, fit.scene, pool)
        if near is not None:
            over, turn = near.float(), 0.5
        if over is None:
            score = bank.score(lamp, self.target(self.quarter), self.rest(fit.scene, self.quarter))
            score = torch.where(free, score, 0.0)
        else:
            chosen = (self._over(over, bank, hidden) & free).nonzero()[:, 0]
            if len(chosen) > _MANY:
                order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(self.seed))
                chosen = chosen[order[:_MANY].sort().values]
            if len(chosen) == 0:
                return pool[:0], torch.zeros(0, 3), torch.zeros(0)
            if hidden or len(chosen) > _LOCAL:
                rest = self.rest(fit.scene, self.quarter)
                score = bank.score(lamp, self.target(self.quarter), rest, chosen)
                chosen, score = chosen[score.argsort()[:_LOCAL]], score.sort().values[:_LOCAL]
            pool = pool[chosen]
            if not hidden:
                rest = self.rest(fit.scene, self.half)
                score = bank.score_larger(lamp, self.target(self.half), rest, chosen)
        if not self.moves.upright:
            turn = 0.4
        first = spread(pool, score, _CANDIDATES, distance=cell, turn=turn, per_asset=6)
        if wrong is not None and len(first) < _CANDIDATES:
            first = self._of_each(pool, score, cell, turn)
        if len(first) == 0:
            return pool[:0], torch.zeros(0, 3), torch.zeros(0)
        finalists, per_asset = (_FINALISTS, _ALIKE) if near is None else (12, 2)
        return self.refined(fit, pool[first], finalists, per_asset=per_asset)

    def likeliest(self, fit: Fit, pool: Candidates, most: int) -> tuple[Candidates, Tensor]:
        """The best of a pool clear of a fit's objects, refined coarsely over it, and their tints."""
        pool = pool[clear(self.world, fit.scene, pool)]
        if len(pool) == 0:
            return pool, torch.zeros(0, 3)
        pinhole, lamp, size = Pinhole.of(fit.scene.camera), self.lamp(fit.scene), self.quarter
        view = pinhole.view(*size)
        some = drawn(self.sketcher, pinhole, pool, view, window_for(self.moves, pinhole, view, pool))
        shade, rest = self.sketcher.shade(some, lamp), self.rest(fit.scene, size)
        score = self.sketcher.score(some, shade, None, self.target(size), rest)
        first = spread(pool, score, _NEAR, distance=0.04 * self.reach, turn=0.3, per_asset=8)
        if len(first) == 0:
            return pool[:0], torch.zeros(0, 3)
        found, tint, change = self._refined(fit, pool[first], iterations=10, size=self.half)
        order = spread(found, change, most, distance=0.02 * self.reach, turn=0.3, per_asset=4)
        order = order[clear(self.world, fit.scene, found[order])]
        return found[order], self._tint(found, tint)[order]

    def _of_each(self, pool: Candidates, score: Tensor, cell: float, turn: float) -> Tensor:
        """Indices of the best of each asset that show: a little beside its place, one may explain nothing."""
        shows, score, best = score != 0.0, score - score.max() - 1.0, []
        for asset in pool.asset.unique():
            own = ((pool.asset == asset) & shows).nonzero()[:, 0]
            some = spread(pool[own], score[own], _ALIKE, distance=cell, turn=turn, per_asset=_ALIKE)
            best.append(own[some])
        return torch.cat(best)

    def _over(self, pixels: Tensor, bank: Bank, hidden: bool) -> Tensor:
        """Which of the bank's candidates have their middle, or any of them, over or close to some pixels."""
        fold = self.evidence.size[0] // self.quarter[0]
        heavy = (F.avg_pool2d(pixels[None, None], fold) > 0.15).float()
        reaches = _REACHES if hidden else _REACHES[:1]  # the larger the object, the farther
        near = torch.cat([F.max_pool2d(heavy, 2 * r + 1, stride=1, padding=r)[0] for r in reaches])
        reach = torch.bucketize(bank.radius, torch.tensor(reaches[1:]))
        x = bank.middle[:, 0].long().clamp(0, near.shape[2] - 1)
        y = bank.middle[:, 1].long().clamp(0, near.shape[1] - 1)
        return near[reach, y, x] > 0

    def refined(
        self, fit: Fit, start: Candidates, finalists: int, *, per_asset: int = _ALIKE
    ) -> tuple[Candidates, Tensor, Tensor]:
        """Candidates after least differences on sketches, coarse then fine, over the fit's own picture."""
        coarse, _, change = self._refined(fit, start, iterations=6, size=self.half)
        keep = spread(coarse, change, finalists, distance=0.02 * self.reach, turn=0.3, per_asset=per_asset)
        if len(keep) == 0:
            return coarse[:0], torch.zeros(0, 3), torch.zeros(0)
        fine, tint, change = self._refined(fit, coarse[keep], iterations=5, size=self.evidence.size)
        order = change.argsort()
        order = order[clear(self.world, fit.scene, fine)[order]]
        return fine[order], self._tint(fine, tint)[order], 4.0 * change[order]

    def _refined(
        self, fit: Fit, start: Candidates, *, iterations: int, size: tuple[int, int]
    ) -> tuple[Candidates, Tensor, Tensor]:
        """Least differences on sketches over the fit's own picture at a size, see `refine`."""
        return refine(
            self.sketcher,
            self.moves,
            Pinhole.of(fit.scene.camera),
            self._level(fit.scene, size == self.evidence.size),
            self.lamp(fit.scene),
            start,
            torch.zeros(len(start), dtype=torch.int32),
            self.rest(fit.scene, size),
            iterations=iterations,
        )
