"""Search in pictures of free objects: their outlines tell where to look, views of the assets what may be there."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from inverse.bank import spread
from inverse.candidates import Candidates, Pinhole, candidates_of, join
from inverse.least_differences import Fit, Judge, with_object
from inverse.light import relight, exposed
from inverse.losses import noise_floor
from inverse.sketch import Lamp, Sketcher
from inverse.sketch_refine import Level, refine
from inverse.views import Blob, Crop, blobs, poses, surface_points
from scenes import Scene

_LAMP = Lamp(torch.tensor([0.0, 0.4, 0.9165]), 0.6, 0.4)  # from behind the camera: the light is not known yet
_CONTENT = 0.0006  # share of wrong pixels above the noise
_AGREED = 0.15  # wrong pixels per pixel of an object below which there is no second look
_ROUGH = 112  # [px] longer side at which candidates are told apart
_LEAST = 24.0  # wrong pixels that an object must explain


class ViewSearch:
    """Finds free objects before a known camera, one blob of unexplained foreground after another."""

    def __init__(self, judge: Judge, sketcher: Sketcher, *, seed: int = 0) -> None:
        self.seed = seed
        self.judge, self.world, self.sketcher, self.moves = judge, judge.world, sketcher, judge.moves
        self.evidence = judge.evidence
        self.rough = judge.coarser(_ROUGH)
        self.points = [surface_points(a.vertices) for a in self.world.assets]
        self.floor = 0.0
        self.log: list[str] = []
        self.report: Callable[[str, Fit], None] = lambda stage, fit: None

    def run(self, fit: Fit) -> Fit:
        """The objects found over `fit`, a scene without objects whose background is right."""
        for slot in range(self.world.count[1]):
            blob = self._unexplained(fit)
            if blob is None:
                break
            trial = self._birth(fit, slot, blob)
            if trial is None or trial.total > fit.total - _LEAST:
                break
            fit = trial
            self.report("birth", fit)
        fit = self.settle(fit)
        if self.excess(fit) < _AGREED * float((fit.instance_id >= 0).sum()):
            return fit
        for slot in range(self.world.count[1]):
            if int(fit.scene.asset[0, slot]) >= 0:
                fit = self._exchange(fit, slot)
        return fit

    def settle(self, fit: Fit) -> Fit:
        """Least differences until nothing moves, with steps that shrink."""
        fit = self.judge.polish(fit, iterations=4)
        fit = self.judge.polish(fit, iterations=4, pixels=0.3)
        self.floor = noise_floor(fit.image - self.evidence.image, self.evidence.tau)
        self.report("least differences", fit)
        return fit

    def content(self, fit: Fit) -> bool:
        """True where nothing is left to explain."""
        return self.excess(fit) < _CONTENT * fit.cost.numel()

    def excess(self, fit: Fit) -> float:
        """Wrong pixels above the picture's noise."""
        return fit.total - self.floor * fit.cost.numel()

    def _pinhole(self, scene: Scene) -> Pinhole:
        """The camera, in pixels of the judged picture."""
        return Pinhole.of(scene.camera).at(self.evidence.size)

    def _unexplained(self, fit: Fit) -> Blob | None:
        """The largest part of the foreground that no object covers."""
        height, width = self.evidence.size
        if self.evidence.mask is None:
            return Blob(0, 0, width, height, float(width * height), True)
        seen = (fit.instance_id >= 0).float()
        left = blobs(((self.evidence.mask > 0.5) & (seen < 0.5)).float())
        return left[0] if left and left[0].area >= max(_LEAST, 0.02 * float(self.evidence.mask.sum())) else None

    def _birth(self, fit: Fit, slot: int, blob: Blob) -> Fit | None:
        start = poses(self.moves, self._pinhole(fit.scene), self.points, blob, seed=self.seed)
        return self._best(fit, slot, start, Crop.around(blob))

    def _exchange(self, fit: Fit, slot: int) -> Fit:
        """Look again at what an object covers, now that the light and the others are known."""
        rest = self.judge.fit(fit.scene.without(slot))
        seen = (fit.instance_id == slot).float()
        found = blobs(seen)
        if not found:
            return fit
        box = _union(found)
        start = join([poses(self.moves, self._pinhole(fit.scene), self.points, box, seed=self.seed), candidates_of(fit.scene, [slot])])
        trial = self._best(rest, slot, start, Crop.around(box))
        if trial is None or trial.total > fit.total + 0.5 * _LEAST + 0.2 * fit.total:
            return fit
        trial = self.settle(trial)
        if trial.total < fit.total - max(1.0, 0.02 * fit.total):
            self.log.append(f"second look: {fit.total:.0f} -> {trial.total:.0f} wrong pixels")
            return trial
        return fit

    def _best(self, fit: Fit, slot: int, start: Candidates, crop: Crop) -> Fit | None:
        """The candidate whose picture, drawn by the engine under its own best light, is the best."""
        pinhole = self._pinhole(fit.scene)
        image, ids, inverse = self.judge.draw(fit.scene)
        inverse = torch.where(ids >= 0, inverse, 0.0)
        view = crop.view(pinhole, 32)
        target, rest = crop.target(self.evidence, 32), crop.rest(image, inverse, 32)
        score = []
        for i in range(0, len(start), 2048):
            part = start[i : i + 2048]
            linear, translation = pinhole.place(part)
            sketch = self.sketcher.draw(
                part.asset, linear, translation, view, window=32, origin=torch.zeros(len(part), 2, dtype=torch.int32), coarse=True
            )
            footprints = self.sketcher.footprints(sketch, view)
            score.append(self.sketcher.score(footprints, self.sketcher.shade(footprints, _LAMP), None, target, rest))
        c, change = start, torch.cat(score)
        for pixels, coarse, most, turn, iterations in ((64, True, 72, 0.3, 8), (128, False, 10, 0.15, 8)):
            keep = spread(c, change, most, distance=float("inf"), turn=turn, per_asset=max(4, most // 2))
            if len(keep) == 0:
                return None
            level = Level(crop.view(pinhole, pixels), crop.target(self.evidence, pixels), 2, coarse)
            zero = torch.zeros(len(keep), dtype=torch.int32)
            c, tint, change = refine(
                self.sketcher, self.moves, pinhole, level, _LAMP, c[keep], zero, crop.rest(image, inverse, pixels), iterations=iterations
            )
        return self._told_apart(fit.scene, slot, c[change.argsort()[:5]], tint[change.argsort()[:5]])

    def _told_apart(self, scene: Scene, slot: int, c: Candidates, tint: Tensor) -> Fit:
        """The best of a few candidates by the engine's small pictures, each polished under the first one's best light."""
        fits: list[Fit] = []
        for i in range(len(c)):
            tinted = self.world.assets[int(c.asset[i])].colour_free
            trial = with_object(scene, slot, c[[i]], tint[i] ** 2.2 if tinted else torch.ones(3))
            if not fits:
                fit = relight(self.rough, self.rough.fit(trial))
            else:
                light = fits[0].scene.light
                fit = self.rough.fit(exposed(self.rough, replace(trial, light=light)))
            fits.append(self.rough.polish(fit, iterations=3))
        best = min(fits, key=lambda f: f.total)
        alike = [f for f in fits if f.total < best.total + max(4.0, 0.05 * best.total)]
        best = min(alike, key=lambda f: self._oddity(f.scene, slot))
        best = self.rough.polish(best if best is fits[0] else relight(self.rough, best), iterations=8)
        return self.judge.fit(best.scene)

    def _oddity(self, scene: Scene, slot: int) -> tuple[int, float]:
        """Orders scenes whose pictures are alike: assets not used twice come first, then what is farther away.

        Similar shapes of different sizes look the same at different distances; the nearer one would be odd: it would have
        to fill the view of a camera almost touching it.
        """
        uses = int((scene.asset[0] == scene.asset[0, slot]).sum())
        return uses, -float((scene.translation[0, slot] - scene.camera.translation[0]).norm())


def _union(parts: list[Blob]) -> Blob:
    return Blob(
        min(b.left for b in parts),
        min(b.top for b in parts),
        max(b.right for b in parts),
        max(b.bottom for b in parts),
        sum(b.area for b in parts),
        any(b.cut for b in parts),
    )


