"""Imitator: a network that draws a world's scenes as an engine does, object by object."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize, one_hot, softplus

from render.surrogate.imitator.boxes import Boxes
from render.surrogate.imitator.composite import compose
from render.surrogate.imitator.crops import Crops, crop
from render.surrogate.imitator.film import Film, waves
from render.surrogate.imitator.placement import Placement, place
from render.surrogate.imitator.scenery import Scenery
from scenes.scene import Scene
from scenes.world import World

EMBEDDING = 24  # numbers of an asset
WIDTH, LAYERS = 48, 3
_MARGIN = 1.5  # [px] around an object's box: pixels average over their area
_INPUTS = 2 * 5 + 2 + 4 + 3
_SPHERE = 1.5**0.5  # radius, in box coordinates, of the ellipsoid that stands for an object
_SOFT = 0.02  # how the ellipsoid's rim is rounded


@dataclass(frozen=True, eq=False)
class Drawing:
    """What an imitator drew of B scenes.

    Attributes:
        rgb: sRGB-encoded in [0, 1], [B, H, W, 3].
        coverage: Share of each pixel that objects cover, [B, H, W].
    """

    rgb: Float[Tensor, "batch row column 3"]
    coverage: Float[Tensor, "batch row column"]


class Imitator(torch.nn.Module):
    """Pictures of a world's scenes, differentiable in all that is known of these, by a network.

    It knows the world's assets by their bounding boxes and declared symmetry, and the camera; nothing of how
    the engine draws. Each object is drawn on its own, on the pixels around the projection of its box: a
    perceptron sees where a pixel lies in the box's rectangle and where its ray passes the box, is modulated
    by what the object is and how it looks out (turn as seen from the eye, light, distance), and answers with
    alpha, depth, reflectance and highlight, which colour and light multiply. Objects are composed softly by
    depth, over a learned picture of the scenery with learned shadows.

    Any number of slots, in any order; an empty one costs nothing and changes nothing. In "upright" worlds of
    a rotation only the turn about y counts. Objects shade the ground, not one another.

    It draws in the type of its weights; the answer has the scene's. A rotation's gradient does not see that
    an object's look is symmetric, save for turns about y in upright worlds.

    Args:
        world: Whose scenes are drawn.
        size: (H, W) of the pictures that it is trained on. Others are drawn as sharply as these.
    """

    spread: Tensor
    usual: Tensor

    def __init__(self, world: World, size: tuple[int, int] = (64, 64)) -> None:
        super().__init__()
        self.size = size
        self.upright = world.placement == "upright"
        self.boxes = Boxes(world)
        self.embedding = torch.nn.Parameter(0.5 * torch.randn(len(world.assets), EMBEDDING))
        outlook = (8 if self.upright else 9) + 12
        self.film = Film(_INPUTS, EMBEDDING + outlook, 7, width=WIDTH, layers=LAYERS)
        with torch.no_grad():  # opaque, grey, without highlight
            self.film.out.bias.copy_(torch.tensor([1.0, 0.0, -0.7, -0.7, -0.7, 0.0, -4.0]))
        self.softness = torch.nn.Parameter(torch.tensor(-1.5))  # logarithm, in boxes' diagonals
        self.scenery = Scenery(EMBEDDING, size) if world.scenery else None
        self.register_buffer("usual", torch.zeros(outlook))
        self.register_buffer("spread", torch.ones(outlook))

    def forward(
        self,
        scene: Scene,
        size: tuple[int, int] | None = None,
        *,
        asset_weights: Float[Tensor, "batch slot asset"] | None = None,
        presence: Float[Tensor, "batch slot"] | None = None,
    ) -> Float[Tensor, "batch row column 3"]:
        """Pictures of B scenes, sRGB-encoded; see `draw`."""
        return self.draw(scene, size, asset_weights=asset_weights, presence=presence).rgb

    def draw(
        self,
        scene: Scene,
        size: tuple[int, int] | None = None,
        *,
        asset_weights: Float[Tensor, "batch slot asset"] | None = None,
        presence: Float[Tensor, "batch slot"] | None = None,
        among: Bool[Tensor, "batch row column"] | None = None,
    ) -> Drawing:
        """Pictures of B scenes and what of them objects cover, with gradients to whatever requires them.

        Args:
            scene: B scenes of the world.
            size: (H, W) [px]; None: as trained.
            asset_weights: In place of `scene.asset`: shares of each asset in a slot, which sum to 1. Between
                assets the network draws what it was never shown.
            presence: In place of `scene.asset >= 0`: factor in [0, 1] on each slot's alpha. Slots below
                `placement.LEAST_PRESENCE` are not drawn and get no gradient.
            among: True for the pixels that are wanted, which saves the time of the others; they show no
                objects. None: all are.

        Raises:
            ValueError: If an asset is not one of the world's, or the weights or the presence are not shaped
                as the scene's slots.
        """
        height, width = size = self.size if size is None else size
        kind = scene.translation
        scene, weights, there = self._checked(scene, asset_weights, presence)
        placement = place(
            self.boxes, scene, upright=self.upright, weights=weights, presence=there, size=self.size
        )
        embedding = placement.weights @ self.embedding
        among = None if among is None else among.flatten()
        rectangle = placement.low, placement.high, placement.scene
        crops = crop(*rectangle, margin=_MARGIN, unit=self.size, size=size, among=among)
        colour, alpha, depth = self._drawn(scene, placement, embedding, crops)
        picture, coverage = compose(
            colour,
            alpha,
            depth,
            self._backdrop(scene, placement, embedding, size, among),
            pixel=crops.pixel,
            slot=placement.slot[crops.owner],
            softness=self.softness.exp(),
        )
        from render.shading import encode_srgb  # brings Warp, which `import render` does without

        rgb = encode_srgb(picture.clamp(0.0, 1.0)).view(len(scene), height, width, 3)
        return Drawing(rgb.to(kind), coverage.view(len(scene), height, width).to(kind))

    @torch.no_grad()
    def standardise(self, scene: Scene) -> None:
        """Set the outlooks' means and deviations to those of the objects in these scenes."""
        scene, weights, there = self._checked(scene, None, None)
        outlook = place(
            self.boxes, scene, upright=self.upright, weights=weights, presence=there, size=self.size
        ).outlook
        self.usual.copy_(outlook.mean(0))
        self.spread.copy_(outlook.std(0, correction=0).clamp_min(1e-3))

    def _checked(
        self, scene: Scene, weights: Tensor | None, presence: Tensor | None
    ) -> tuple[Scene, Tensor, Tensor]:
        """The scenes, asset weights and presence, of the network's own type."""
        assets = len(self.embedding)
        if weights is None:
            if len(scene) and not -1 <= int(scene.asset.min()) <= int(scene.asset.max()) < assets:
                raise ValueError(
                    f"scene.asset must lie in -1..{assets - 1}, got {int(scene.asset.min())}.."
                    f"{int(scene.asset.max())}"
                )
            weights = one_hot(scene.asset.clamp_min(0), assets)
        if presence is None:
            presence = scene.asset >= 0
        wanted = (*scene.asset.shape, assets)
        if weights.shape != wanted or presence.shape != wanted[:2]:
            raise ValueError(
                f"asset_weights must have shape {list(wanted)} and presence {list(wanted[:2])}, "
                f"got {list(weights.shape)} and {list(presence.shape)}"
            )
        own = self.softness
        moved = scene.unit().to(own)  # type: ignore[arg-type]  # a tensor says both device and type
        return replace(moved, asset=scene.asset), weights.to(own), presence.to(own)

    def _drawn(
        self, scene: Scene, placement: Placement, embedding: Tensor, crops: Crops
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Linear colour [N, 3], alpha and depth of each sample; depth in usual boxes' diagonals."""
        image, slot, owner = placement.scene, placement.slot, crops.owner
        outlook = (placement.outlook - self.usual) / self.spread
        answer = self.film(_seen(placement, crops), torch.cat([embedding, outlook], 1), owner)
        opaque, behind, reflectance = answer[:, 0], answer[:, 1], softplus(answer[:, 2:5])
        cosine, highlight = softplus(answer[:, 5:]).unbind(1)
        objects = [placement.presence, placement.depth, placement.radius]
        objects += [scene.light.ambient[image], scene.light.intensity[image]]
        numbers = torch.cat([torch.stack(objects, 1), scene.colour[image, slot]], 1).index_select(0, owner)
        presence, depth, radius, ambient, intensity = numbers[:, :5].unbind(1)
        shade = ambient + intensity * cosine
        colour = numbers[:, 5:] * reflectance * shade[:, None] + (intensity * highlight)[:, None]
        alpha = torch.sigmoid(opaque) * crops.window * presence
        return colour, alpha, (depth + radius * behind.tanh()) / self.boxes.diagonal

    def _backdrop(
        self,
        scene: Scene,
        placement: Placement,
        embedding: Tensor,
        size: tuple[int, int],
        among: Tensor | None,
    ) -> Float[Tensor, "pixel 3"]:
        if self.scenery is not None:
            picture: Tensor = self.scenery(scene, placement, embedding, size, among)
            return picture
        return scene.background.repeat_interleave(size[0] * size[1], 0)


def _seen(placement: Placement, crops: Crops) -> Float[Tensor, "sample input"]:
    """Where each pixel lies: from the box's middle, in its rectangle, and how its ray passes the box."""
    columns = (placement.middle, placement.reach[:, None], placement.low, placement.high, placement.eye)
    numbers = torch.cat([*columns, placement.ray.flatten(1)], 1).index_select(0, crops.owner)
    middle, reach, low, high, eye, ray = numbers.split([2, 1, 2, 2, 3, 9], 1)
    offset = (crops.at - middle) / reach
    around = (2.0 * crops.at - low - high) / (high - low + 1.0)
    pixel = torch.cat([crops.at, torch.ones_like(reach)], 1)
    towards = (ray.view(-1, 3, 3) * pixel[:, None]).sum(-1)
    return torch.cat([waves(2.0 * offset), around, _ellipsoid(eye, towards), _entry(eye, towards)], 1)


def _ellipsoid(eye: Float[Tensor, "sample 3"], ray: Float[Tensor, "sample 3"]) -> Float[Tensor, "sample 4"]:
    """Where a ray meets the box's ellipsoid, smoothly beyond its rim, and how deep it passes."""
    towards = normalize(ray, dim=1)
    nearest = eye - (eye * towards).sum(1, keepdim=True) * towards
    inside = 1.0 - nearest.square().sum(1, keepdim=True) / _SPHERE**2
    deep = ((inside + (inside * inside + _SOFT).sqrt()) / 2.0).sqrt()
    return torch.cat([nearest - _SPHERE * deep * towards, deep], 1)


def _entry(eye: Float[Tensor, "sample 3"], ray: Float[Tensor, "sample 3"]) -> Float[Tensor, "sample 3"]:
    """Where a ray enters the box; beside it, cut off."""
    ray = torch.where(ray.abs() < 1e-3, torch.where(ray < 0, -1e-3, 1e-3), ray)
    along = ((-ray.sign() - eye) / ray).amax(1, keepdim=True)
    return (eye + along * ray).clamp(-1.5, 1.5)
