"""Least differences: Levenberg-Marquardt on a whole scene, its Jacobian made of the engine's own pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from inverse.candidates import Candidates, Moves, Pinhole
from inverse.directions import at_end, directions
from inverse.jacobian import Stencil, stencils
from inverse.losses import Evidence, covered
from render.engine import Engine, open_engine
from scenes import Scene, World, stack
from scenes.scene import matrix

_BATCH = 32  # scenes drawn per call
_DAMPINGS = (0.1, 1.0, 10.0)
_WIDENINGS = (1.0, 4.0)  # of tau in the weights: rho's own, and one under which misplaced edges still pull
_SMOOTH = {"colour": 0.02, "light": 0.04, "background": 0.02}  # steps of entries that move no outline
_TURNS = ("light.azimuth", "light.elevation")  # move the outlines of shadows
_FARTHEST = 5.0  # moves of each kind that a step may take
_STEADY = 0.05  # of all that was gained: what a step must gain for another with the same Jacobian


@dataclass(frozen=True, eq=False)
class Fit:
    """A scene with what the engine's picture of it costs.

    Attributes:
        scene: One scene.
        image: The engine's picture, [H, W, 3].
        cost: Wrong pixels, [H, W].
        instance_id: Which slot each pixel shows, int32 [H, W].
    """

    scene: Scene
    image: Float[Tensor, "height width 3"]
    cost: Float[Tensor, "height width"]
    instance_id: Tensor

    @property
    def total(self) -> float:
        """Number of wrong pixels."""
        return float(self.cost.sum())


class Judge:
    """The engine's own pictures, compared with the evidence, counted."""

    def __init__(self, engine: Engine, world: World, evidence: Evidence) -> None:
        self.engine, self.world, self.evidence = engine, world, evidence
        self.moves = Moves(world)
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

    def draw(self, scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
        """Colours [B, H, W, 3], instance ids and inverse depth [B, H, W], at the evidence's size."""
        images, ids, depths = [], [], []
        for i in range(0, len(scene), _BATCH):
            some = scene[i : i + _BATCH]
            frame = self.engine.render(some, size=self.evidence.size)
            instance_id, depth = frame.instance_id, frame.depth
            if instance_id is None or depth is None:
                outlines = self._outlines.render(some, size=self.evidence.size)
                instance_id, depth = outlines.instance_id, outlines.depth
            assert instance_id is not None
            assert depth is not None
            images.append(frame.rgb)
            ids.append(instance_id)
            depths.append(1.0 / depth.clamp_min(1e-6))
        self._count(len(scene))
        return torch.cat(images), torch.cat(ids), torch.cat(depths)

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

    def _cost(self, image: Tensor, ids: Tensor) -> Tensor:
        return self.evidence.cost(image, covered(ids, self.world.count[1]).float())

    def steps(self, scene: Scene, pixels: float) -> Float[Tensor, "parameter"]:
        """For each entry of theta a step that moves outlines by about `pixels`, or changes colours."""
        world, moves = self.world, self.moves
        slots = list(range(world.count[1]))
        asset = scene.asset[0].clamp_min(0)
        objects = Candidates(asset, matrix(scene.rotation[0]), scene.translation[0], scene.scale[0])
        pinhole = Pinhole.of(scene.camera)
        per_slot = moves.steps(objects, pinhole, pinhole.view(*self.evidence.size), pixels)
        names = ["xyz"[k] for k in moves.axes] + (
            ["yaw"] if moves.upright else [f"rotation_{a}" for a in "xyz"]
        )
        names += ["scale"] if moves.sized else []
        lookup = {f"object{s}.{name}": float(per_slot[s, k]) for s in slots for k, name in enumerate(names)}
        width = pixels / self.evidence.size[1]
        lookup |= {"camera.azimuth": width, "camera.elevation": width}
        lookup |= dict.fromkeys(_TURNS, 0.03)
        lookup["camera.distance"] = width * float(scene.camera.translation[0].norm().clamp_min(0.1))
        lookup["camera.focal"] = width * float(scene.camera.focal[0, 1])
        return torch.tensor(
            [lookup.get(n) or _SMOOTH.get(g, 0.02) for n, g in zip(world.names, world.groups, strict=True)]
        )

    def polish(
        self,
        start: Fit,
        *,
        free: Bool[Tensor, "parameter"] | None = None,
        iterations: int,
        pixels: float = 0.7,
    ) -> Fit:
        """Levenberg-Marquardt on theta.

        The Jacobian is made of central differences of the engine's pictures for what moves outlines, of
        one-sided ones for colours and strengths of light. It serves for several steps as long as these gain
        and together cost no more than it does (Shamanskii 1967). Several dampings are tried at once, with the
        weights of rho and of a wider rho.

        Args:
            start: Where to begin.
            free: Entries of theta that may change; None: all that are active.
            iterations: Most Jacobians to build.
            pixels: Shift of outlines by the difference steps.

        Returns:
            The best fit met; never worse than `start`.
        """
        best, damping = start, 1e-2
        columns = self._columns(start.scene, free)
        if len(columns) == 0:
            return start
        for _ in range(iterations):
            before, drawn = best.total, self.renders
            moves = self._moves(best.scene, columns, pixels)
            jacobian = self._jacobian(best, columns, moves)
            for chord in range(max(1, (self.renders - drawn) // (len(_WIDENINGS) * len(_DAMPINGS)))):
                here = best.total
                best, damping = self._stepped(best, jacobian, columns, moves, damping)
                if best.total == here and chord == 0:
                    best, damping = self._stepped(best, jacobian, columns, moves, damping * 1e3)
                if here - best.total <= _STEADY * (start.total - best.total):
                    break
            if before - best.total < max(0.05, 1e-3 * best.total):
                break
        return best

    def _stepped(
        self, best: Fit, jacobian: Tensor, columns: Tensor, moves: Tensor, damping: float
    ) -> tuple[Fit, float]:
        """The best of several steps if it beats the fit, else the fit; and the damping to go on with."""
        theta = self.world.pack(best.scene)[0]
        trials = []
        for normal, descent in self._normals(best, jacobian):
            # what lies at the end of its range and wants out stays there, so that the others do not count
            # on it
            stays = self._outward(theta, columns, descent)
            descent = torch.where(stays, 0.0, descent)
            for factor in _DAMPINGS:
                damped = normal + torch.diag(normal.diagonal() * damping * factor + 1e-9)
                damped[stays], damped[:, stays] = 0.0, 0.0
                step = -torch.linalg.solve(damped + torch.diag(stays.float()), descent)
                trials.append(self._clamp(theta + step.clamp(-_FARTHEST, _FARTHEST) @ moves))
        scenes = self.world.unpack(torch.stack(trials), like=best.scene)
        image, ids, _ = self.draw(scenes)
        cost = self._cost(image, ids)
        k = int(cost.sum((1, 2)).argmin())
        if float(cost[k].sum()) >= best.total:
            return best, damping
        best = Fit(scenes[k], image[k], cost[k], ids[k])
        self.note("least differences", best)
        return best, min(1e3, max(1e-5, damping * _DAMPINGS[k % len(_DAMPINGS)]))

    def covariances(self, fit: Fit, blocks: list[Tensor]) -> list[Float[Tensor, "column column"]]:
        """Covariance of each block of theta's entries, all others held; one Jacobian serves all blocks.

        A block holds an object's whole place or none of it. The covariance is the inverse curvature times
        the residual's variance.
        """
        columns = torch.cat(blocks)
        moves = self._moves(fit.scene, columns, 0.5)
        normal, _ = self._normals(fit, self._jacobian(fit, columns, moves))[0]
        # under rho a right pixel's squared difference has weight 1 / tau^2
        variance = float((fit.image - self.evidence.image).square().median()) / 0.455 / self.evidence.tau**2
        told = []
        for part in torch.arange(len(columns)).split([len(b) for b in blocks]):
            move = moves[part][:, columns[part]]
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

    def _moves(self, scene: Scene, columns: Tensor, pixels: float) -> Float[Tensor, "column parameter"]:
        """How theta moves for each of its columns, by what shifts outlines by about `pixels`."""
        steps, view = self.steps(scene, pixels), Pinhole.of(scene.camera).view(*self.evidence.size)
        return directions(self.world, self.moves, scene, columns, steps, view, pixels)

    @cached_property
    def _smooth(self) -> Bool[Tensor, "parameter"]:
        """Entries of theta that move no outline."""
        named = zip(self.world.names, self.world.groups, strict=True)
        return torch.tensor([g in _SMOOTH and n not in _TURNS for n, g in named])

    def _stencils(self, fit: Fit, columns: Tensor) -> list[Stencil]:
        """Columns in sets that one picture, or a pair, serves."""
        slots = sorted({self.world.slot_of[c] for c in columns.tolist()} - {-1})
        channels = 3 if self.evidence.mask is None else 4
        return stencils(self.world, columns.tolist(), self._reach(fit, slots), channels)

    def _reach(self, fit: Fit, slots: list[int]) -> dict[int, Float[Tensor, "height width"]]:
        """How much each object's removal changes a pixel or one beside it; more where the object is seen."""
        if len(slots) < 2:
            return {s: torch.ones(self.evidence.size) for s in slots}
        image, _, _ = self.draw(stack([fit.scene.without(s) for s in slots]))
        change = F.max_pool2d((image - fit.image).abs().amax(-1)[:, None], 3, stride=1, padding=1)
        seen = torch.stack([fit.instance_id == s for s in slots])
        near = F.avg_pool2d(seen[:, None].float(), 3, stride=1, padding=1)
        return dict(zip(slots, (change + near)[:, 0], strict=True))

    def _jacobian(self, fit: Fit, columns: Tensor, moves: Tensor) -> Float[Tensor, "column residual"]:
        """How each of the moves changes the picture, by differences."""
        shared, theta, smooth = self._stencils(fit, columns), self.world.pack(fit.scene)[0], self._smooth
        # one-sided differences go down where the range ends above
        over = smooth[columns] & ((theta + moves)[:, columns].diagonal() > self.world.high[columns])
        sign = torch.where(over, -1.0, 1.0)
        rows = []
        for s in shared:
            step = sign[s.places] @ moves[s.places]
            rows += [theta + step] if smooth[s.columns[0]] else [theta + step, theta - step]
        image, ids, _ = self.draw(self.world.unpack(torch.stack(rows), like=fit.scene))
        residual = self._residual(fit.image, fit.instance_id)
        moved = iter([self._residual(i, d) for i, d in zip(image, ids, strict=True)])
        jacobian = torch.empty(len(columns), *residual.shape)
        for s in shared:
            change = next(moved) - (residual if smooth[s.columns[0]] else next(moved))
            change = change if smooth[s.columns[0]] else 0.5 * change
            for place, share in zip(s.places, s.shares, strict=True):
                jacobian[place] = sign[place] * change * share
        return jacobian.flatten(1)

    def _normals(self, fit: Fit, jacobian: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Gauss-Newton's matrix and gradient of the robust cost at a fit, for each widening of tau."""
        residual, normals = self._residual(fit.image, fit.instance_id), []
        for widening in _WIDENINGS:
            weighted = jacobian * self._weight(residual, widening * self.evidence.tau).flatten()
            normals.append((weighted @ jacobian.T, weighted @ residual.flatten()))
        return normals

    def _residual(self, image: Tensor, ids: Tensor) -> Float[Tensor, "height width channel"]:
        difference = image - self.evidence.image
        if self.evidence.mask is None:
            return difference
        seen = covered(ids, self.world.count[1])
        return torch.cat([difference, (seen.float() - self.evidence.mask)[..., None]], -1)

    def _weight(self, residual: Tensor, tau: float) -> Tensor:
        square = residual[..., :3].square().sum(-1, keepdim=True)
        tau2 = tau**2
        slope = (tau2 / (square + tau2).square()).expand(*square.shape[:-1], 3)
        if residual.shape[-1] == 3:
            return slope
        return torch.cat([slope, torch.full_like(square, self.evidence.mask_weight)], -1)


def with_object(scene: Scene, slot: int, c: Candidates, colour: Float[Tensor, "3"]) -> Scene:
    """The scene with candidate number 0 of `c` in `slot`, tinted."""
    import roma

    asset, rotation = scene.asset.clone(), scene.rotation.clone()
    translation, scale, tint = scene.translation.clone(), scene.scale.clone(), scene.colour.clone()
    asset[0, slot], translation[0, slot], scale[0, slot] = c.asset[0], c.translation[0], c.scale[0]
    rotation[0, slot] = roma.rotmat_to_unitquat(c.rotation[:1])[0]
    tint[0, slot] = colour
    return replace(scene, asset=asset, rotation=rotation, translation=translation, scale=scale, colour=tint)
