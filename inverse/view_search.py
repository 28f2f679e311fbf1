"""Search for free objects: outlines tell where to look, views of the assets what may be there."""

from dataclasses import replace

import torch
from torch import Tensor

from inverse.bank import spread
from inverse.candidates import Candidates, Pinhole, candidates_of, join
from inverse.glance import Glance
from inverse.least_differences import Fit, Judge, with_object
from inverse.light import exposed, relight
from inverse.losses import noise_floor
from inverse.sketch import Lamp, Rest, Sketcher
from inverse.sketch_refine import Level, refine
from inverse.views import Blob, Crop, blobs, poses, surface_points
from scenes import Scene

_LAMP = Lamp(torch.tensor([0.0, 0.4, 0.9165]), 0.6, 0.4)  # from behind the camera: the light is not known yet
_CONTENT = 0.0006  # share of wrong pixels above the noise
_AGREED = 0.15  # wrong pixels per pixel of an object below which there is no second look
_ROUGH = 112  # [px] side of a square as large as the pictures in which candidates are told apart
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

    def run(self, fit: Fit) -> Fit:
        """The objects found over `fit`, a scene without objects whose background is right."""
        for slot in range(self.world.count[1]):
            blob = self._unexplained(fit)
            trial = None if blob is None else self._birth(fit, slot, blob)
            if trial is None or trial.total > fit.total - _LEAST:
                break
            fit = trial
            self.judge.note("birth", fit)
        return self._agreed(fit)

    def improve(self, fit: Fit, glance: Glance) -> Fit:
        """The best objects found from `fit`, a scene that is about right; the glance tells nothing more."""
        return self._agreed(fit)

    def _agreed(self, fit: Fit) -> Fit:
        """The fit refined, and other assets tried where it does not agree with the picture."""
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
        self.judge.note("least differences", fit)
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
        assert self.evidence.mask is not None  # recover() sees to it
        seen = (fit.instance_id >= 0).float()
        left = blobs(((self.evidence.mask > 0.5) & (seen < 0.5)).float())
        return (
            left[0] if left and left[0].area >= max(_LEAST, 0.02 * float(self.evidence.mask.sum())) else None
        )

    def _birth(self, fit: Fit, slot: int, blob: Blob) -> Fit | None:
        start = poses(self.moves, self._pinhole(fit.scene), self.points, blob, seed=self.seed)
        return self._told_apart(fit.scene, slot, self._refined(fit, start, Crop.around(blob)))

    def _exchange(self, fit: Fit, slot: int) -> Fit:
        """Look again at what an object covers, now that the light and the others are known."""
        rest = self.judge.fit(fit.scene.without(slot))
        found = blobs((fit.instance_id == slot).float())
        if not found:
            return fit
        box, pinhole = _union(found), self._pinhole(fit.scene)
        start = join(
            [poses(self.moves, pinhole, self.points, box, seed=self.seed), candidates_of(fit.scene, [slot])]
        )
        trial = self._told_apart(rest.scene, slot, self._refined(rest, start, Crop.around(box)))
        if trial is None or trial.total > fit.total + 0.5 * _LEAST + 0.2 * fit.total:
            return fit
        trial = self.settle(trial)
        if trial.total < fit.total - max(1.0, 0.02 * fit.total):
            return trial
        return fit

    def _rest(self, fit: Fit, crop: Crop, pixels: int) -> Rest:
        """A fit's picture inside a crop."""
        return crop.rest(*self.judge.behind(fit.scene), pixels)

    def _scored(self, fit: Fit, start: Candidates, crop: Crop) -> Tensor:
        """Change of wrong pixels of the picture that each candidate's small sketch brings."""
        pinhole = self._pinhole(fit.scene)
        view, target, rest = crop.view(pinhole, 32), crop.target(self.evidence, 32), self._rest(fit, crop, 32)
        score = []
        for i in range(0, len(start), 2048):
            part = start[i : i + 2048]
            linear, translation = pinhole.place(part)
            origin = torch.zeros(len(part), 2, dtype=torch.int32)
            sketch = self.sketcher.draw(
                part.asset, linear, translation, view, window=32, origin=origin, coarse=True
            )
            footprints = self.sketcher.footprints(sketch, view)
            score.append(
                self.sketcher.score(footprints, self.sketcher.shade(footprints, _LAMP), None, target, rest)
            )
        return torch.cat(score) * (crop.side / 32) ** 2

    def _refined(self, fit: Fit, start: Candidates, crop: Crop) -> tuple[Candidates, Tensor, Tensor]:
        """The best few after least differences on sketches: objects, encoded tints, change of cost."""
        pinhole = self._pinhole(fit.scene)
        c, tint, change = start, torch.ones(len(start), 3), self._scored(fit, start, crop)
        for pixels, coarse, most, turn in ((64, True, 72, 0.3), (128, False, 10, 0.15)):
            keep = spread(c, change, most, distance=float("inf"), turn=turn, per_asset=max(4, most // 2))
            if len(keep) == 0:
                return c[:0], tint[:0], change[:0]
            level = Level(crop.view(pinhole, pixels), crop.target(self.evidence, pixels), 2, coarse)
            zero = torch.zeros(len(keep), dtype=torch.int32)
            rest = self._rest(fit, crop, pixels)
            c, tint, change = refine(
                self.sketcher, self.moves, pinhole, level, _LAMP, c[keep], zero, rest, iterations=8
            )
            change = change * (2.0 * crop.side / pixels) ** 2
        return c, tint, change

    def _told_apart(self, scene: Scene, slot: int, found: tuple[Candidates, Tensor, Tensor]) -> Fit | None:
        """The best of the most promising candidates by the engine's own small pictures."""
        first = found[2].argsort()[:5]
        if len(first) == 0:
            return None
        c, tint = found[0][first], found[1][first]
        fits: list[Fit] = []
        for i in range(len(c)):
            tinted = self.world.assets[int(c.asset[i])].colour_free
            trial = with_object(scene, slot, c[[i]], tint[i] ** 2.2 if tinted else torch.ones(3))
            if not fits:
                fit = relight(self.rough, self.rough.fit(trial))
            else:
                light = fits[0].scene.light
                fit = self.rough.fit(exposed(self.rough, replace(trial, light=light))[0])
            fits.append(self.rough.polish(fit, iterations=3))
        best = min(fits, key=lambda f: f.total)
        margin = max(4.0, 0.02 * float((best.instance_id == slot).sum()))
        alike = [f for f in fits if f.total < best.total + margin]
        best = min(alike, key=lambda f: self._oddity(f.scene, slot))
        best = self.rough.polish(best if best is fits[0] else relight(self.rough, best), iterations=8)
        return self.judge.fit(best.scene)

    def _oddity(self, scene: Scene, slot: int) -> tuple[int, float]:
        """Order of scenes whose pictures are alike: assets not used twice first, then what is farther.

        Similar shapes of different sizes look the same at different distances; the nearer one would be odd:
        it would have to fill the view of a camera almost touching it.
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
