"""Least differences: Levenberg-Marquardt on a whole scene, its Jacobian made of the engine's own pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse.candidates import Candidates, Moves, Pinhole
from inverse.directions import at_end
from inverse.jacobian import SMOOTH, TURNS, Differences, Slopes, parts_of
from inverse.losses import Evidence, covered, squared
from inverse.window import Window
from render.engine import Engine, open_engine
from scenes import Scene, World
from scenes.scene import matrix

_BATCH = 32  # scenes drawn per call
_DAMPINGS = (0.2, 5.0)  # tried at once with new slopes; steps after the first keep to what was best
_WIDENINGS = (1.0, 4.0)  # of tau in the weights: rho's own, and one under which misplaced edges still pull
_FARTHEST = 5.0  # moves of each kind that a step may take
_STEADY = 0.05  # of all that was gained: what a step must gain for another with the same Jacobian
_WORTH = 0.05  # wrong pixels, and ...
LEAST = 1e-3  # ... share of all that are wrong: what a step must promise to be drawn
STEEP = 0.05  # share of what is wrong that a look must take away while others wait to be tried


@dataclass(frozen=True, eq=False)
class Fit:
    """A scene with what the engine's picture of it costs.

    Attributes:
        scene: One scene.
        image: The engine's picture, [H, W, 3].
        cost: Wrong pixels, [H, W].
        instance_id: Which slot each pixel shows, int32 [H, W].
        slopes: How the picture changes with the scene, there or very near, where that was looked at.
    """

    scene: Scene
    image: Float[Tensor, "height width 3"]
    cost: Float[Tensor, "height width"]
    instance_id: Tensor
    slopes: Slopes | None = None

    @property
    def total(self) -> float:
        """Number of wrong pixels."""
        return float(self.cost.sum())


class Judge:
    """The engine's own pictures, compared with the evidence, counted."""

    def __init__(self, engine: Engine, world: World, evidence: Evidence) -> None:
        self.engine, self.world, self.evidence = engine, world, evidence
        self.moves = Moves(world)
        self.window, self.whole = Window(0, 0, *evidence.size), evidence.size
        self.renders = 0
        self.watch: Callable[[str, Fit, int], None] | None = None  # told of stage, fit, pictures drawn
        self._finer: Judge | None = None

    def coarser(self, side: int) -> "Judge":
        """A judge of the picture in about as many pixels as a square of `side`; its renders count here."""
        height, width = self.evidence.size
        fold = max(1, round(math.sqrt(height * width) / side))
        rough = Judge(self.engine, self.world, self.evidence.resized((height // fold, width // fold)))
        rough._finer = self
        return rough

    def part(self, window: Window) -> "Judge":
        """A judge of a part of the picture alone; its renders count here."""
        evidence, mask = self.evidence, self.evidence.mask
        mask = None if mask is None else window.cut(mask)
        part = Judge(self.engine, self.world, replace(evidence, image=window.cut(evidence.image), mask=mask))
        part.window, part.whole, part._finer = window, evidence.size, self
        return part

    def draw(self, scene: Scene, window: Window | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Colours [B, H, W, 3], instance ids and depth [B, H, W], at the evidence's size; see `Frame`.

        With a window only that part of the picture.
        """
        window = self.window if window is None else window
        size = window.size
        if size != self.whole:
            scene = replace(scene, camera=window.camera(scene.camera, self.whole))
        images, ids, depths = [], [], []
        for i in range(0, len(scene), _BATCH):
            some = scene[i : i + _BATCH]
            frame = self.engine.render(some, size=size)
            instance_id, depth = frame.instance_id, frame.depth
            if instance_id is None or depth is None:
                outlines = self._outlines.render(some, size=size)
                instance_id, depth = outlines.instance_id, outlines.depth
            assert instance_id is not None
            assert depth is not None
            images.append(frame.rgb)
            ids.append(instance_id)
            depths.append(depth)
        self._count(len(scene))
        return torch.cat(images), torch.cat(ids), torch.cat(depths)

    def behind(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """What a sketch is laid over: colours, and inverse depths of what may hide it, 0 where nothing is."""
        image, ids, depth = self.draw(scene)
        return image, torch.where(ids >= 0, 1.0 / depth.clamp_min(1e-6), 0.0)

    @cached_property
    def _outlines(self) -> Engine:
        """Tells what is seen where, for engines that do not: the guessed scene's shapes are known."""
        return open_engine("software", self.world, size=self.evidence.size, samples=1, shadows=False)

    def note(self, stage: str, fit: Fit) -> None:
        """Tell who watches of a fit on the way."""
        if self.watch:
            self.watch(stage, fit, self.renders)

    def _count(self, renders: int) -> None:
        self.renders += renders
        if self._finer:
            self._finer._count(renders)

    def costs(self, scene: Scene) -> Float[Tensor, "batch"]:
        """Number of wrong pixels of each scene."""
        image, ids, _ = self.draw(scene)
        return self._cost(image, ids).sum((1, 2))

    def fit(self, scene: Scene) -> Fit:
        """Judge one scene."""
        image, ids, _ = self.draw(scene)
        return Fit(scene, image[0], self._cost(image, ids)[0], ids[0])

    def cut(self, fit: Fit) -> Fit:
        """The part of a whole picture's fit that this judge sees."""
        see = self.window.cut
        return Fit(fit.scene, see(fit.image), see(fit.cost), see(fit.instance_id))

    def _cost(self, image: Tensor, ids: Tensor) -> Tensor:
        masked = self.evidence.mask is not None
        return self.evidence.cost(image, covered(ids, self.world.count[1]).float() if masked else None)

    def steps(self, scene: Scene, pixels: float) -> Float[Tensor, "parameter"]:
        """For each entry of theta a step that moves outlines by about `pixels`, or changes colours."""
        world, moves = self.world, self.moves
        slots = list(range(world.count[1]))
        asset = scene.asset[0].clamp_min(0)
        objects = Candidates(asset, matrix(scene.rotation[0]), scene.translation[0], scene.scale[0])
        pinhole = Pinhole.of(scene.camera)
        per_slot = moves.steps(objects, pinhole, pinhole.view(*self.whole), pixels)
        names = ["xyz"[k] for k in moves.axes] + (
            ["yaw"] if moves.upright else [f"rotation_{a}" for a in "xyz"]
        )
        names += ["scale"] if moves.sized else []
        lookup = {f"object{s}.{name}": float(per_slot[s, k]) for s in slots for k, name in enumerate(names)}
        width = pixels / self.whole[1]
        lookup |= {"camera.azimuth": width, "camera.elevation": width}
        lookup |= dict.fromkeys(TURNS, 0.03)
        lookup["camera.distance"] = width * float(scene.camera.translation[0].norm().clamp_min(0.1))
        lookup["camera.focal"] = width * float(scene.camera.focal[0, 1])
        return torch.tensor(
            [lookup.get(n) or SMOOTH.get(g, 0.02) for n, g in zip(world.names, world.groups, strict=True)]
        )

    def polish(
        self,
        start: Fit,
        *,
        free: Bool[Tensor, "parameter"] | None = None,
        iterations: int,
        pixels: float = 0.7,
        least: float = LEAST,
    ) -> Fit:
        """Levenberg-Marquardt on theta.

        The Jacobian is made of differences of the engine's pictures (see `Differences`). It serves for
        several steps as long as these gain and together cost no more than it does (Shamanskii 1967); of what
        has hardly moved it serves on, until steps gain too little and all of it is made anew once. Several
        dampings are tried at once, with the weights of rho and of a wider rho. Where the model promises no
        gain nothing is drawn any more.

        Args:
            start: Where to begin.
            free: Entries of theta that may change; None: all that are active.
            iterations: Most Jacobians to build.
            pixels: Shift of outlines by the difference steps.
            least: Share of what is wrong that a Jacobian's steps must take away for another to be built.

        Returns:
            The best fit met; never worse than `start`.
        """
        columns = self._columns(start.scene, free)
        if len(columns) == 0 or self._settled(start, columns, least):
            return start
        parts = parts_of(self, start, columns)
        if len(parts) > 1 or parts[0].window == self.window:
            return self._polished(start, Differences(self, parts, pixels), iterations, least)
        # one object alone: the rest of the picture stays as it is
        near = self.part(parts[0].window)
        end = near._polished(near.cut(start), Differences(near, parts, pixels), iterations, least)
        trial = self.fit(end.scene)
        if trial.total >= start.total:
            return start
        self.note("least differences", trial)
        return trial

    def _settled(self, fit: Fit, columns: Tensor, least: float) -> bool:
        """True where slopes looked at before promise no gain from these columns, or brought none."""
        known = fit.slopes
        if known is None or not known.of(columns):
            return False
        return known.gained < least or _promise(self._normals(fit, known)) < _worth(fit)

    def _polished(self, start: Fit, differences: Differences, iterations: int, least: float) -> Fit:
        best, damping, anew = start, 1e-2, False
        for _ in range(iterations):
            before, drawn = best.total, self.renders
            slopes = differences.slopes(best, anew=anew)
            fresh = bool((slopes.theta == self.world.pack(best.scene)[0]).all())
            best = replace(best, slopes=slopes)
            for chord in range(max(1, (self.renders - drawn) // (len(_WIDENINGS) * len(_DAMPINGS)))):
                here = best.total
                normals = self._normals(best, slopes)
                if _promise(normals) < _worth(best):
                    return best
                dampings = [damping * f for f in _DAMPINGS] if chord == 0 else [damping]
                best, damping = self._stepped(best, normals, dampings)
                if best.total == here and chord == 0 and fresh:
                    best, damping = self._stepped(best, normals, [1e3 * d for d in dampings])
                if here - best.total <= _STEADY * (start.total - best.total):
                    break
            gained = before - best.total
            anew = gained < max(_WORTH, least * before)
            if anew and fresh:
                return replace(best, slopes=replace(slopes, gained=max(0.0, gained / before)))
        return best

    def _stepped(
        self, best: Fit, normals: list[tuple[Tensor, Tensor]], dampings: list[float]
    ) -> tuple[Fit, float]:
        """The best of several steps if it beats the fit, else the fit; and the damping to go on with."""
        assert best.slopes is not None
        columns, moves = best.slopes.columns, best.slopes.moves
        theta = self.world.pack(best.scene)[0]
        trials = []
        for normal, descent in normals:
            # what lies at the end of its range and wants out stays there, so that the others do not count
            # on it
            stays = self._outward(theta, columns, descent)
            descent = torch.where(stays, 0.0, descent)
            for damping in dampings:
                damped = normal + torch.diag(normal.diagonal() * damping + 1e-9)
                damped[stays], damped[:, stays] = 0.0, 0.0
                step = -torch.linalg.solve(damped + torch.diag(stays.float()), descent)
                trials.append(self._clamp(theta + step.clamp(-_FARTHEST, _FARTHEST) @ moves))
        scenes = self.world.unpack(torch.stack(trials), like=best.scene)
        image, ids, _ = self.draw(scenes)
        cost = self._cost(image, ids)
        k = int(cost.sum((1, 2)).argmin())
        if float(cost[k].sum()) >= best.total:
            return best, dampings[len(dampings) // 2]
        best = Fit(scenes[k], image[k], cost[k], ids[k], best.slopes)
        self.note("least differences", best)
        return best, min(1e3, max(1e-5, dampings[k % len(dampings)]))

    def covariances(self, fit: Fit, blocks: list[Tensor]) -> list[Float[Tensor, "column column"]]:
        """Covariance of each block of theta's entries, all others held.

        A block holds an object's whole place or none of it. The covariance is the inverse curvature times
        the residual's variance.
        """
        slopes, columns = fit.slopes, torch.cat(blocks)
        if slopes is None or not bool(torch.isin(columns, slopes.columns).all()):
            slopes = Differences(self, parts_of(self, fit, columns), 0.5).slopes(fit)
        normal, _ = self._normals(fit, slopes)[0]
        # under rho a right pixel's squared difference has weight 1 / tau^2
        variance = float((fit.image - self.evidence.image).square().median()) / 0.455 / self.evidence.tau**2
        places = {c: k for k, c in enumerate(slopes.columns.tolist())}
        told = []
        for block in blocks:
            part = [places[c] for c in block.tolist()]
            move = slopes.moves[part][:, block]
            told.append(move.T @ torch.linalg.pinv(normal[part][:, part], hermitian=True) @ move * variance)
        return told

    def _columns(self, scene: Scene, free: Tensor | None) -> Tensor:
        active = self.world.active(scene)[0]
        return (active if free is None else active & free).nonzero()[:, 0]

    def _clamp(self, theta: Tensor) -> Tensor:
        """Keep what has hard ends within its range; angles may pass theirs and come back round."""
        low, high = self.world.low, self.world.high
        return torch.where(self.world.ends, torch.maximum(torch.minimum(theta, high), low), theta)

    def _outward(self, theta: Tensor, columns: Tensor, descent: Tensor) -> Bool[Tensor, "column"]:
        """Columns at an end of their range that descent would push through it."""
        low, high = at_end(self.world, theta)[:, columns]
        return (low & (descent > 0)) | (high & (descent < 0))

    def _normals(self, fit: Fit, slopes: Slopes) -> list[tuple[Tensor, Tensor]]:
        """Gauss-Newton's matrix and gradient of the robust cost at a fit, for each widening of tau."""
        residual, normals = self.residual(fit.image, fit.instance_id), []
        for widening in _WIDENINGS:
            weighted = slopes.values * self._weight(residual, widening * self.evidence.tau).flatten()
            normals.append((weighted @ slopes.values.T, weighted @ residual.flatten()))
        return normals

    def residual(
        self, image: Tensor, ids: Tensor, window: Window | None = None
    ) -> Float[Tensor, "*batch height width channel"]:
        """What is wrong with the colours of pictures, or of a part, and with coverage if that is known."""
        target, mask = self.evidence.image, self.evidence.mask
        if window is not None:
            target, mask = window.cut(target), None if mask is None else window.cut(mask)
        if mask is None:
            return image - target
        seen = covered(ids, self.world.count[1])
        return torch.cat([image - target, (seen.float() - mask)[..., None]], -1)

    def _weight(self, residual: Tensor, tau: float) -> Tensor:
        square = squared(residual)[..., None]
        tau2 = tau**2
        slope = (tau2 / (square + tau2).square()).expand(*square.shape[:-1], 3)
        if residual.shape[-1] == 3:
            return slope
        return torch.cat([slope, torch.full_like(square, self.evidence.mask_weight)], -1)


def _worth(fit: Fit) -> float:
    """Wrong pixels below which a gain is none."""
    return max(_WORTH, LEAST * fit.total)


def _promise(normals: list[tuple[Tensor, Tensor]]) -> float:
    """Wrong pixels that a step would save if the picture changed as its slopes say.

    Under a wider rho a pixel counts the less, by the square; but what is quite wrong tells where to go.
    """
    promises = []
    for widening, (normal, descent) in zip(_WIDENINGS, normals, strict=True):
        damped = normal + torch.diag(1e-3 * normal.diagonal() + 1e-9)
        promises.append(widening**2 * float(descent @ torch.linalg.solve(damped, descent)))
    return max(promises)


def with_object(scene: Scene, slot: int, c: Candidates, colour: Float[Tensor, "3"]) -> Scene:
    """The scene with candidate number 0 of `c` in `slot`, tinted."""
    import roma

    asset, rotation = scene.asset.clone(), scene.rotation.clone()
    translation, scale, tint = scene.translation.clone(), scene.scale.clone(), scene.colour.clone()
    asset[0, slot], translation[0, slot], scale[0, slot] = c.asset[0], c.translation[0], c.scale[0]
    rotation[0, slot] = roma.rotmat_to_unitquat(c.rotation[:1])[0]
    tint[0, slot] = colour
    return replace(scene, asset=asset, rotation=rotation, translation=translation, scale=scale, colour=tint)
