"""Recovery: what was found in a picture, and how it was found."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float, Int
from torch import Tensor

from scenes.files import output_folder
from scenes.scene import Scene
from scenes.world import World

# explained: the engine's picture of it agrees with what is seen. doubtful: it agrees, but so does another
# pose or asset, or too little of it is seen. unexplained: it does not agree.
Verdict = Literal["explained", "doubtful", "unexplained"]


@dataclass(frozen=True)
class FoundObject:
    """What is said of one object of a recovery, beside its numbers in the scene.

    Attributes:
        slot: The scene's slot that holds it.
        asset: Name of the asset.
        presence: How sure it is that the object is there, in [0, 1].
        verdict: Whether the picture agrees with it.
        reason: In words, why the verdict is not "explained"; else empty.
        visible_fraction: Seen part of its silhouette, in [0, 1], or None where the engine cannot tell.
        uncertainty: Named numbers, None where unknown, for example "position_m" or "rotation_degrees", or
            lists of names ("alternatives"). Goes into recovery.json as it is.
    """

    slot: int
    asset: str
    presence: float = 1.0
    verdict: Verdict = "explained"
    reason: str = ""
    visible_fraction: float | None = None
    uncertainty: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One scene (B = 1) that may be behind the picture, its loss, and a note on what sets it apart.

    `image` is the engine's picture of it, [H, W, 3], or None where it was not kept.
    """

    scene: Scene
    loss: float
    note: str = ""
    image: Float[Tensor, "row column 3"] | None = None


@dataclass(frozen=True)
class Step:
    """One step of work: its stage, the loss of the scene it tried, renders and time [s] since the start.

    `scene` is what it tried (B = 1), or None where that was not kept.
    """

    stage: str
    loss: float
    renders: int
    seconds: float
    scene: Scene | None = None


@dataclass(frozen=True, eq=False)
class Recovery:
    """What `inverse.recover` found.

    Attributes:
        world: What was known before looking.
        scene: The best scene, B = 1.
        objects: One entry for each filled slot of `scene`.
        picture: The picture that was explained, in the size it was compared in, sRGB in [0, 1], [H, W, 3].
        image: The engine's own picture of `scene`, same size.
        instance_id: Which slot a pixel shows (`render.Frame.instance_id`), int32 [H, W], or None.
        loss: The engine's picture against `picture`, lower is better.
        psnr: The same in decibels.
        renders: Pictures drawn by the engine in all.
        seconds: Time taken.
        hypotheses: `scene` first, then other scenes that give the same picture, in the order of their loss.
        ambiguous: True where several hypotheses give the same picture.
        messages: Sentences for the user: what is ambiguous, what is not explained.
        history: Steps in order.
        frames: Pictures of the scenes tried, [H, W, 3] each, evenly spaced among the steps of `history`, the
            first and the last among them; for refinement.gif.
        engine, strategy, operator, seed: How it was found.
        source: The picture's file name, or empty.
        command: The command line that repeats it, or empty.
    """

    world: World
    scene: Scene
    objects: tuple[FoundObject, ...]
    picture: Float[Tensor, "row column 3"]
    image: Float[Tensor, "row column 3"]
    instance_id: Int[Tensor, "row column"] | None
    loss: float
    psnr: float
    renders: int
    seconds: float
    hypotheses: tuple[Hypothesis, ...] = ()
    ambiguous: bool = False
    messages: tuple[str, ...] = ()
    history: tuple[Step, ...] = ()
    frames: tuple[Float[Tensor, "row column 3"], ...] = ()
    engine: str = ""
    strategy: str = "manual"
    operator: str = "edge"
    seed: int = 0
    source: str = ""
    command: str = ""

    @property
    def recovered(self) -> bool:
        """True where at least one object is there that the picture does not contradict."""
        return any(o.verdict != "unexplained" for o in self.objects)

    def save(self, folder: Path | str) -> list[Path]:
        """Write scene.glb, recovery.json and refinement.json, and the pictures and the page that show them.

        Those are comparison.png, refinement.gif, loss.png and report.html. Every file is whole or absent:
        each is written under another name first.

        Args:
            folder: Where to; made if it is missing.

        Returns:
            The files written.

        Raises:
            OutputError: If the folder or a file cannot be written.
        """
        from inverse.recoveryfile import write_recovery, write_scene
        from inverse.refinementfile import write_steps
        from inverse.report import write_comparison, write_loss, write_refinement, write_report

        folder = output_folder(Path(folder))
        writers = {
            "scene.glb": write_scene,
            "recovery.json": write_recovery,
            "refinement.json": write_steps,
            "comparison.png": write_comparison,
            "refinement.gif": write_refinement,
            "loss.png": write_loss,
            "report.html": write_report,
        }
        for name, write in writers.items():
            write(self, folder / name)
        return [folder / name for name in writers]
