"""Training the encoder."""

from dataclasses import replace

import torch
from torch import Tensor

from inverse.encoder.augment import augmented
from inverse.encoder.figures import COUNTED_PIXELS, Figures
from inverse.encoder.labels import label_loss
from inverse.encoder.network import Encoder, encoder_size
from inverse.encoder.sighting import fitted, look, scene_of
from inverse.training.pictures import Pictures
from scenes import World

_HALVED = 0.5  # share of the budget
_THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


class EncoderTask:
    """Training from labels: the scenes that were sampled."""

    def __init__(self, world: World, *, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = Encoder(world)

    def loss(self, pictures: Pictures, progress: float) -> Tensor:
        """See `label_loss`; half of the pictures are augmented.

        At first the pictures are half as large, which costs a fourth.
        """
        self.network.size = encoder_size(self.network.layout.world)
        if progress < _HALVED:
            height, width = self.network.size
            self.network.size = (height // 2, width // 2)
        return label_loss(self.network, resized(augmented(pictures), self.network.size))

    def measure(self, held: Pictures) -> dict[str, float]:
        """Figures at the best threshold, which becomes the network's."""
        best: dict[str, float] = {}
        for threshold, figures in zip(_THRESHOLDS, evaluated(self.network, held, _THRESHOLDS), strict=True):
            if not best or figures["F1"] > best["F1"]:
                best = figures
                self.network.threshold.fill_(threshold)
        return best


def resized(pictures: Pictures, size: tuple[int, int]) -> Pictures:
    """The pictures in H x W pixels, an integral part of their own."""
    if (pictures.rgb.shape[1], pictures.rgb.shape[2]) == size:
        return pictures
    step = pictures.rgb.shape[1] // size[0]
    return replace(
        pictures,
        rgb=fitted(pictures.rgb, size),
        instance_id=pictures.instance_id[:, step // 2 :: step, step // 2 :: step],
    )


def evaluated(encoder: Encoder, held: Pictures, thresholds: tuple[float, ...]) -> list[dict[str, float]]:
    """`Figures.summary` of an encoder on pictures, for each threshold of heat."""
    world = encoder.layout.world
    slots = world.count[1]
    counted = COUNTED_PIXELS * held.rgb.shape[1] * held.rgb.shape[2] / 128**2
    gathered = [Figures() for _ in thresholds]
    visible = held.visible.cpu()
    for first in range(0, len(held), 64):
        part = slice(first, first + 64)
        for k, sightings in enumerate(look(encoder, held.rgb[part], least=min(thresholds)), first):
            sightings = sightings[:slots]
            guess = scene_of(encoder, sightings)
            heat = torch.cat([sightings.heat, torch.zeros(slots - len(sightings))])
            for threshold, figures in zip(thresholds, gathered, strict=True):
                sure = replace(guess, asset=guess.asset.masked_fill(heat <= threshold, -1))
                figures.add(world, held.scene[[k]], visible[k], sure, counted=counted)
    return [f.summary() for f in gathered]
