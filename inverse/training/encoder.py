"""Training the encoder: from labels, or by the pictures alone, through a strategy's gradients."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inverse.encoder.augment import augmented
from inverse.encoder.figures import COUNTED_PIXELS, Figures
from inverse.encoder.labels import label_loss
from inverse.encoder.network import NARROW, WIDE, Encoder, encoder_size
from inverse.encoder.sighting import fitted, look, scene_of, sightings
from inverse.encoder.stored import save_encoder
from inverse.training.pictures import Pictures
from inverse.training.trainer import Training, TrainingSettings, facts_of, train
from render.blur import blurred_squared_error
from render.checks import check_name
from render.differentiable import differentiable
from render.engine import open_engine
from scenes import World, stack
from scenes.weights import read_weights

TEACHERS = ("labels", "surrogate", "manual")
_HALVED = 0.25  # share of the budget in which pictures are half as large, which costs a fourth
_THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
_ALONE = 0.3  # share of the budget before pictures without labels join
_BLURS = ((0.0, 1.0), (1.5, 2.0), (4.0, 4.0))  # widths [px at 64 px] of the picture loss, and their weights
_PICTURE_WEIGHT = 20.0


class LabelTask:
    """Training from labels: the scenes that were sampled.

    Args:
        world: Whose scenes are drawn.
        widths: Of the network.
        start: Weights of another encoder, of this world or another: what fits is taken over, and pictures
            are of full size from the first.
        seed: Of the first weights.

    Attributes:
        halved: Share of the budget in which pictures are half as large.
    """

    def __init__(
        self,
        world: World,
        *,
        widths: tuple[int, int, int, int] = NARROW,
        start: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = Encoder(world, widths)
        self.halved = _HALVED if start is None else 0.0
        if start is not None:
            own = self.network.state_dict()
            fits = {n: t.float() for n, t in start.items() if n in own and own[n].shape == t.shape}
            self.network.load_state_dict(fits, strict=False)

    def loss(self, pictures: Pictures, progress: float) -> Tensor:
        """See `label_loss`; half of the pictures are augmented."""
        self.network.size = encoder_size(self.network.layout.world)
        if progress < self.halved:
            self.network.size = half(self.network.size)
        return label_loss(self.network, resized(augmented(pictures), self.network.size))

    def measure(self, held: Pictures) -> dict[str, float]:
        """Figures at the best threshold, which becomes the network's."""
        return measured(self.network, held)


class PictureTask:
    """Training without a label of any of the engine's pictures.

    Half of each batch are scenes of which only a drawing is used, by the model that lends its gradients: the
    frozen surrogate, or for "manual" the rasterizer that its operators differentiate. They are labelled, for
    the model knows what it draws. The other half are the engine's pictures, whose scenes are not looked at:
    the scene that the encoder sees in each is drawn, and the difference of the pictures goes back through
    the strategy's gradients to the encoder's numbers. Which assets are there is learned from drawings only:
    by pictures alone it is forgotten (a mixture of assets fits better than the right one).

    Args:
        world: Whose scenes are drawn.
        strategy: "surrogate" or "manual".
        engine: Whose pictures are to be read.
        surrogate: The network; None: the one beside the world.
        widths: Of the encoder.
        seed: Of its first weights.

    Attributes:
        alone: Share of the budget in which drawings are alone, before pictures join.
    """

    def __init__(
        self,
        world: World,
        strategy: str,
        *,
        engine: str = "auto",
        surrogate: torch.nn.Module | None = None,
        widths: tuple[int, int, int, int] = NARROW,
        seed: int = 0,
    ) -> None:
        check_name("strategy", strategy, TEACHERS[1:])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = Encoder(world, widths)
        self.network.size = half(encoder_size(world))
        self.alone = _ALONE
        self._open = ExitStack()
        opened = self._open.enter_context(open_engine(engine, world, size=self.network.size))
        self._shapes = self._open.enter_context(open_engine("software", world, size=self.network.size))
        options: dict[str, Any] = {"surrogate": surrogate} if strategy == "surrogate" else {}
        self.render = differentiable(opened, strategy, **options)
        self._draws = None
        if strategy == "surrogate":
            self._draws = differentiable(opened, strategy, picture="operator", **options)

    def loss(self, pictures: Pictures, progress: float) -> Tensor:
        """Of drawings, from their labels; later also of pictures, from themselves."""
        count = len(pictures) // 2
        loss = label_loss(self.network, augmented(self._drawn(pictures[:count])))
        if progress >= self.alone:
            loss = loss + _PICTURE_WEIGHT * self._picture_loss(
                fitted(pictures[count:].rgb, self.network.size)
            )
        return loss

    def measure(self, held: Pictures) -> dict[str, float]:
        """As `LabelTask.measure`: here labels are looked at, and nothing is learned."""
        return measured(self.network, resized(held, self.network.size))

    def close(self) -> None:
        """Give back the engines."""
        self._open.close()

    def __enter__(self) -> "PictureTask":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @torch.no_grad()
    def _drawn(self, pictures: Pictures) -> Pictures:
        """The same scenes as the strategy's own model draws them, on the CPU."""
        scene = pictures.scene.to("cpu")
        frame = self._shapes.render(scene)
        assert frame.instance_id is not None  # the rasterizer tells
        rgb = frame.rgb if self._draws is None else self._draws(scene, self.network.size)
        return Pictures(scene, rgb, frame.instance_id.long()).to(pictures.rgb.device)

    def _picture_loss(self, rgb: Tensor) -> Tensor:
        """How far pictures are from those of the scenes that the encoder sees in them."""
        slots = self.network.layout.world.count[1]
        least = float(self.network.threshold)
        seen = [s[:slots] for s in sightings(self.network, rgb, least)]
        drawn = self.render(stack([scene_of(self.network, s) for s in seen]))
        unit = self.network.size[0] / 64.0
        rgb = rgb.to(drawn.device)  # where sightings are: on the CPU
        losses = [weight * blurred_squared_error(drawn, rgb, sigma * unit) for sigma, weight in _BLURS]
        return torch.stack(losses).sum(0).mean()


def train_encoder(
    world: World,
    folder: Path,
    settings: TrainingSettings,
    *,
    by: str = "labels",
    start: Path | None = None,
    command: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> tuple[Training, list[Path]]:
    """Train a world's encoder, and write it; interrupted, it goes on.

    Args:
        world: Whose scenes are drawn.
        folder: For the checkpoint and `encoder.safetensors`.
        settings: Budget, optimiser, pool.
        by: One of `TEACHERS`: what it learns from.
        start: With "labels": weights to begin from, of an encoder of this world or another.
        command: What the user typed, to be noted beside the weights.
        device: Where the network is trained; on a GPU it is wider.
        progress: Show a progress bar with the held-out figures.

    Returns:
        What came of it, and the files.

    Raises:
        WeightsError, OutputError: If a file cannot be written, or the weights to begin from cannot be read.
        ValueError: If there is no such teacher.
        CheckpointError, EngineError, RuntimeError: As `train`.
    """
    check_name("teacher", by, TEACHERS)
    with ExitStack() as opened:
        task: LabelTask | PictureTask
        widths = WIDE if device.startswith("cuda") else NARROW
        if by == "labels":
            weights = None if start is None else read_weights(start)[0]
            task = LabelTask(world, widths=widths, start=weights, seed=settings.seed)
        else:
            task = PictureTask(world, by, engine=settings.pool.engine, widths=widths, seed=settings.seed)
            opened.enter_context(task)
        training = train(world, task, folder, settings, device=device, progress=progress)
    path = folder / "encoder.safetensors"
    save_encoder(path, task.network.cpu(), {"by": by, **facts_of(training, settings, command)})
    return training, [path]


def half(size: tuple[int, int]) -> tuple[int, int]:
    """Half of a size (H, W)."""
    return size[0] // 2, size[1] // 2


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


def measured(encoder: Encoder, held: Pictures) -> dict[str, float]:
    """Figures at the best threshold, which becomes the encoder's."""
    best: dict[str, float] = {}
    for threshold, figures in zip(_THRESHOLDS, evaluated(encoder, held, _THRESHOLDS), strict=True):
        if not best or figures["F1"] > best["F1"]:
            best = figures
            encoder.threshold.fill_(threshold)
    return best


def evaluated(encoder: Encoder, held: Pictures, thresholds: tuple[float, ...]) -> list[dict[str, float]]:
    """`Figures.summary` of an encoder on pictures, for each threshold of heat."""
    world = encoder.layout.world
    slots = world.count[1]
    counted = COUNTED_PIXELS * held.rgb.shape[1] * held.rgb.shape[2] / 128**2
    gathered = [Figures() for _ in thresholds]
    truth, visible = held.scene.to("cpu"), held.visible.cpu()
    for first in range(0, len(held), 64):
        part = slice(first, first + 64)
        for k, seen in enumerate(look(encoder, held.rgb[part], least=min(thresholds)), first):
            seen = seen[:slots]
            guess = scene_of(encoder, seen)
            heat = torch.cat([seen.heat, torch.zeros(slots - len(seen))])
            for threshold, figures in zip(thresholds, gathered, strict=True):
                sure = replace(guess, asset=guess.asset.masked_fill(heat <= threshold, -1))
                figures.add(world, truth[[k]], visible[k], sure, counted=counted)
    return [f.summary() for f in gathered]
