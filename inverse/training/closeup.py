"""Training the close-up: cut-outs round true objects, each believed a little wrongly."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from inverse.encoder.augment import augmented
from inverse.encoder.closeup import CloseUp, Told
from inverse.encoder.cutout import Belief, Squares
from inverse.encoder.labels import Labels, labels_of, rotation_loss, shown
from inverse.encoder.layout import Layout
from inverse.encoder.network import Encoder, encoder_size
from inverse.encoder.stored import load_encoder, save_closeup
from inverse.training.encoder import measured, resized
from inverse.training.pictures import Pictures
from inverse.training.trainer import Training, TrainingSettings, facts_of, train
from scenes import Scene, World
from scenes.weights import WeightsError

_ASIDE, _LARGER = 0.1, 0.08  # standard deviations of a belief's place, in radii as seen, and of its log size
_FAR = 3.0  # how much larger they are of one belief in five
_MISTAKEN = 0.15  # share of beliefs in another asset
_MOMENTUM = 0.02  # of the running spreads


class CloseUpTask:
    """Training from labels; what is believed of each object is true but for random errors.

    Args:
        encoder: Of the same world: it is measured with the close-up, and stays as it is.
        seed: Of the first weights.
    """

    def __init__(self, encoder: Encoder, *, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = CloseUp(encoder.layout.world)
        self.encoder = encoder

    def loss(self, pictures: Pictures, progress: float) -> Tensor:
        """Half of the pictures are augmented."""
        pictures, layout = augmented(pictures), self.network.layout
        size = (pictures.rgb.shape[1], pictures.rgb.shape[2])
        labels = labels_of(layout, pictures.scene, shown(pictures), size)
        belief = mistaken(layout, labels, pictures.scene)
        small = self.network.small(belief).nonzero()[:, 0]
        if not len(small):  # a batch of large objects teaches nothing
            return torch.stack([p.sum() for p in self.network.parameters()]).sum() * 0.0
        labels, belief = labels[small], belief[small]
        told, squares = self.network(pictures.rgb, labels.batch, belief)
        return self._loss(told, squares, belief, labels, pictures.scene)

    def measure(self, held: Pictures) -> dict[str, float]:
        """Figures of encoder and close-up together at the best threshold, which becomes the close-up's."""
        self.encoder.attach(self.network)
        figures = measured(self.encoder, resized(held, encoder_size(self.network.layout.world)))
        self.network.threshold.copy_(self.encoder.threshold)
        return figures

    def _loss(self, told: Told, squares: Squares, belief: Belief, labels: Labels, scene: Scene) -> Tensor:
        layout = self.network.layout
        offset = (labels.pixels - squares.centre) / squares.side[:, None]
        radii = labels.depth.new_tensor([a.radius for a in layout.world.assets])
        scale = scene.scale[labels.batch, labels.slot]
        size = (radii[labels.asset] * scale / labels.depth).log()
        size = size - (radii[belief.asset] * belief.scale / belief.depth).log()
        self._watch_spread((told.offset.detach() - offset) * squares.side[:, None], told.size.detach() - size)
        loss = F.cross_entropy(told.asset, labels.asset)
        loss = loss + 20.0 * F.smooth_l1_loss(told.offset, offset, beta=0.02)
        loss = loss + 10.0 * F.smooth_l1_loss(told.size, size, beta=0.02)
        return loss + 2.0 * rotation_loss(layout, told.rotation, labels, scene)

    def _watch_spread(self, places: Tensor, sizes: Tensor) -> None:
        """Keep running spreads; medians, for a few are far off."""
        now = 1.4826 * torch.stack([places.abs().median(), sizes.abs().median()])  # of a normal distribution
        self.network.spread.lerp_(now, _MOMENTUM)


def mistaken(layout: Layout, labels: Labels, scene: Scene, error: float = 1.0) -> Belief:
    """Beliefs about labelled objects: the truth with random errors.

    Args:
        layout: Of the world.
        labels: The objects.
        scene: The batch's.
        error: How large, in units of a usual encoder's.
    """
    count, device = len(labels.asset), labels.depth.device
    radii = labels.depth.new_tensor([a.radius for a in layout.world.assets])
    scale = scene.scale[labels.batch, labels.slot]
    wide = error * torch.where(torch.rand(count, device=device) < 0.2, _FAR, 1.0)
    other = torch.rand(count, device=device) < error * _MISTAKEN
    asset = torch.where(other, torch.randint(len(radii), (count,), device=device), labels.asset)
    reach = wide * _ASIDE * radii[labels.asset] * scale / labels.depth * labels.rays.focal[:, 1]
    pixels = labels.pixels + reach[:, None] * torch.randn(count, 2, device=device)
    depth = labels.depth * (wide * _LARGER * torch.randn(count, device=device)).exp()
    return Belief(asset, pixels, depth, scale, labels.rays)


def train_closeup(
    world: World,
    folder: Path,
    settings: TrainingSettings,
    *,
    encoder: Path | None = None,
    command: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> tuple[Training, list[Path]]:
    """Train what looks again at what a world's encoder found, and write it; interrupted, it goes on.

    Args:
        world: Whose scenes are drawn.
        folder: For the checkpoint and `closeup.safetensors`.
        settings: Budget, optimiser, pool.
        encoder: Weights of the encoder that it is measured with; None: those beside the world.
        command: What the user typed, to be noted beside the weights.
        device: Where the network is trained.
        progress: Show a progress bar with the held-out figures.

    Returns:
        What came of it, and the files.

    Raises:
        WeightsError, OutputError: If a file cannot be written, or there is no encoder of this world.
        CheckpointError, EngineError, RuntimeError: As `train`.
    """
    sees = load_encoder(world, encoder)
    if sees is None:
        raise WeightsError(
            f"the world {world.name} has no encoder to look after; train one: unrender train encoder "
            f"{world.source}"
        )
    task = CloseUpTask(sees.to(device), seed=settings.seed)
    training = train(world, task, folder, settings, device=device, progress=progress)
    path = folder / "closeup.safetensors"
    save_closeup(path, task.network.cpu(), facts_of(training, settings, command))
    return training, [path]
