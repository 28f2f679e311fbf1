"""Training the surrogate: a network learns to draw as the engine does."""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse.picture import write_picture
from inverse.training.pictures import UNKNOWN, Pictures
from inverse.training.pool import held_out
from inverse.training.trainer import Training, TrainingSettings, facts_of, train
from render.surrogate import Imitator, save_imitator
from scenes import World

SCALE = 100.0  # of the squared error of colours
FOREGROUND = 3.0  # more weight of a pixel that shows an object: these are few, and the background is easy
MASK = 10.0  # of the squared error of coverage at first; without it objects stay transparent for long
LOOKED = 0.3  # share of a picture's pixels that a step looks at: more pictures teach more than more pixels
SEEN = 0.05  # difference from the scenery by which objects are told where the engine tells no ids
_STANDARD = 512  # scenes from which the network's inputs are standardised
_SHOWN = 8  # scenes in the final picture


class SurrogateTask:
    """Training an `Imitator` on the engine's pictures.

    Args:
        world: Whose scenes are drawn.
        size: (H, W) of the pictures [px].
        seed: Of the first weights.
    """

    def __init__(self, world: World, size: tuple[int, int] = (64, 64), *, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Imitator(world, size)
            self.network.standardise(world.sample(_STANDARD))

    def loss(self, pictures: Pictures, progress: float) -> Tensor:
        """Squared error of colours, and of coverage with a weight that falls to 0."""
        looked = torch.rand(pictures.rgb.shape[:3], device=pictures.rgb.device) < LOOKED
        drawing = self.network.draw(pictures.scene, among=looked)
        seen = self.foreground(pictures)[looked].to(drawing.rgb)
        error = (drawing.rgb[looked] - pictures.rgb[looked]).square().mean(-1)
        weight = 1.0 + FOREGROUND * seen
        mask = (drawing.coverage[looked] - seen).square().mean()
        return SCALE * (error * weight).sum() / weight.sum() + MASK * (1.0 - progress) * mask

    def measure(self, held: Pictures) -> dict[str, float]:
        """PSNR [dB] of whole pictures and of their foregrounds alone, means over pictures."""
        parts = [self._squares(held[first : first + 64]) for first in range(0, len(held), 64)]
        whole, front = (torch.cat(part) for part in zip(*parts, strict=True))
        return {"psnr": _decibels(whole), "foreground": _decibels(front[front.isfinite()])}

    def foreground(self, pictures: Pictures) -> Bool[Tensor, "batch row column"]:
        """Where objects are seen; told by their difference from the scenery where the engine tells no ids."""
        ids = pictures.instance_id
        if len(ids) and int(ids[0, 0, 0]) != UNKNOWN:
            return (ids >= 0) & (ids < pictures.scene.slots)
        nothing = torch.full_like(pictures.scene.asset, -1)
        with torch.no_grad():
            empty = self.network(replace(pictures.scene, asset=nothing))
        return (pictures.rgb - empty).abs().amax(-1) > SEEN

    def _squares(self, held: Pictures) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Mean squared errors of each picture and of its foreground, NaN where it has none."""
        error = (self.network(held.scene) - held.rgb).square().mean(-1)
        seen = self.foreground(held)
        return error.mean((1, 2)), (error * seen).sum((1, 2)) / seen.sum((1, 2))


def train_surrogate(
    world: World,
    folder: Path,
    settings: TrainingSettings,
    *,
    command: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> tuple[Training, list[Path]]:
    """Train a world's surrogate, and write it with a picture of what it can do; interrupted, it goes on.

    Args:
        world: Whose scenes are drawn.
        folder: For the checkpoint, `surrogate.safetensors` and `surrogate.png`.
        settings: Budget, optimiser, pool, size of the pictures.
        command: What the user typed, to be noted beside the weights.
        device: Where the network is trained.
        progress: Show a progress bar with the held-out figures.

    Returns:
        What came of it, and the files.

    Raises:
        WeightsError, OutputError: If a file cannot be written.
        CheckpointError, EngineError, RuntimeError: As `train`.
    """
    task = SurrogateTask(world, settings.pool.size, seed=settings.seed)
    training = train(world, task, folder, settings, device=device, progress=progress)
    network = task.network.cpu()
    files = [folder / "surrogate.safetensors", folder / "surrogate.png"]
    save_imitator(files[0], network, world, facts_of(training, settings, command))
    held = held_out(world, _SHOWN, settings.pool.size, engine=settings.pool.engine, seed=settings.seed)
    write_picture(files[1], sheet(network, held))
    return training, files


@torch.no_grad()
def sheet(network: torch.nn.Module, held: Pictures) -> Float[Tensor, "row column 3"]:
    """One column per scene: the engine's picture above, the network's below, their difference under it.

    The difference is shown about middle grey, so that it has both signs.
    """
    drawn = network(held.scene)
    rows = (held.rgb, drawn, 0.5 + (drawn - held.rgb))
    return torch.cat([torch.cat(list(row), 1) for row in rows])


def _decibels(squares: Float[Tensor, "picture"]) -> float:
    return float((-10.0 * squares.clamp_min(1e-10).log10()).mean())
