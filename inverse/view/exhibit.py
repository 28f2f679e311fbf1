"""Exhibit: what there is to look at in a recovery, whether it was just made or is read from its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from inverse.picture import fitted, levels, read_picture
from inverse.recovery import FoundObject, Hypothesis, Recovery, Step
from inverse.recoveryfile import RecoveryFileError, load_scene, read_recovery, scene_of
from inverse.refinementfile import read_steps
from render.engine import open_engine
from scenes.scene import Scene, stack
from scenes.world import World

LARGEST_HEIGHT = 256  # [px] of the engine's pictures


@dataclass(frozen=True, eq=False)
class Exhibit:
    """What there is to look at.

    Attributes:
        world: What was known before looking.
        hypotheses: Scenes (B = 1) that may be behind the picture, the best first; at least one.
        steps: Scenes that were tried on the way, in order; each has its scene.
        objects: What is said of the objects of the first hypothesis; empty where nothing is.
        picture: What was explained, sRGB, [H, W, 3], or None where it is not at hand.
        title: What it is called.
        messages: Sentences for the user.
    """

    world: World
    hypotheses: tuple[Hypothesis, ...]
    steps: tuple[Step, ...] = ()
    objects: tuple[FoundObject, ...] = ()
    picture: UInt8[np.ndarray, "row column 3"] | None = None
    title: str = ""
    messages: tuple[str, ...] = ()

    @staticmethod
    def of(recovery: Recovery) -> "Exhibit":
        """What `inverse.recover` returned."""
        return Exhibit(
            world=recovery.world,
            hypotheses=recovery.hypotheses or (Hypothesis(recovery.scene, recovery.loss),),
            steps=tuple(step for step in recovery.history if step.scene is not None),
            objects=recovery.objects,
            picture=levels(recovery.picture),
            title=recovery.source or recovery.world.name,
            messages=recovery.messages,
        )

    @property
    def scenes(self) -> list[Scene]:
        """The scenes of all hypotheses, then those of all steps."""
        tried = [step.scene for step in self.steps if step.scene is not None]
        return [found.scene for found in self.hypotheses] + tried

    def pictures(self, engine: str = "auto") -> UInt8[np.ndarray, "scene row column 3"]:
        """The engine's pictures of `scenes`.

        Raises:
            EngineError: If the engine cannot be opened.
        """
        camera = self.hypotheses[0].scene.camera
        height = min(camera.height, LARGEST_HEIGHT)
        size = (height, max(1, round(height * camera.width / camera.height)))
        with open_engine(engine, self.world, size=size) as opened:
            return levels(opened.render(stack(self.scenes)).rgb)


def read_exhibit(path: Path, world: World, *, image: Path | None = None) -> Exhibit:
    """What there is to look at in a recovery.json, with the refinement.json beside it, or in a scene.glb.

    Args:
        path: The file; see `recovery_beside` for which of two.
        world: Its world.
        image: The picture; where left out, the one that the recovery names, looked for where it was, then
            beside the file.

    Raises:
        RecoveryFileError, SceneFileError: If a file cannot be read or does not fit the world.
        PictureError: If the picture cannot be read or has not the camera's proportions.
    """
    if path.suffix.lower() == ".glb":
        scene = load_scene(path, world)
        picture = None if image is None else _picture(image, scene)
        return Exhibit(world, (Hypothesis(scene, float("nan"), "scene"),), picture=picture, title=path.name)
    content = read_recovery(path)
    scene = scene_of(content, world, path)
    messages = [str(m) for m in content.get("messages", ())]
    found = [image] if image is not None else _places(str(content.get("image", "")), path)
    source = next((place for place in found if place.is_file()), image)
    if source is None:
        messages.append(f"The picture {content.get('image', '')} is not there: name it with --image.")
    steps = path.with_name("refinement.json")
    return Exhibit(
        world=world,
        hypotheses=_hypotheses(content, scene, world, path),
        steps=read_steps(steps, world) if steps.is_file() else (),
        objects=_said(content, path),
        picture=None if source is None else _picture(source, scene),
        title=Path(str(content.get("image") or path)).name,
        messages=tuple(messages),
    )


def recovery_beside(path: Path) -> Path:
    """The recovery.json beside a scene.glb, which says more of the same scene; else `path` itself."""
    beside = path.with_name("recovery.json")
    return beside if path.name == "scene.glb" and beside.is_file() else path


def _places(image: str, path: Path) -> list[Path]:
    """Where the picture of a recovery may be."""
    return [Path(image), path.parent / image, path.parent / Path(image).name] if image else []


def _picture(image: Path, scene: Scene) -> UInt8[np.ndarray, "row column 3"]:
    camera = scene.camera
    picture, _ = fitted(read_picture(image), camera.width, camera.height)
    return levels(picture.rgb)


def _hypotheses(content: dict[str, Any], scene: Scene, world: World, path: Path) -> tuple[Hypothesis, ...]:
    """Those of the file; the scene itself where it lists none."""
    try:
        return tuple(
            Hypothesis(scene_of(entry, world, path), _number(entry["loss"]), str(entry["note"]))
            for entry in content["hypotheses"]
        ) or (Hypothesis(scene, _number(content["loss"])),)
    except KeyError as error:
        raise RecoveryFileError(f"{path}: the key {error} is missing") from None


def _said(content: dict[str, Any], path: Path) -> tuple[FoundObject, ...]:
    """What is said of the objects; nothing in the truth beside a sampled picture, which has no verdicts."""
    entries: Sequence[dict[str, Any]] = content["objects"]
    try:
        return tuple(
            FoundObject(
                slot=slot,
                asset=entry["asset"],
                presence=entry["presence"],
                verdict=entry["verdict"],
                reason=entry["reason"],
                visible_fraction=entry["visible_fraction"],
            )
            for slot, entry in enumerate(entries)
            if "verdict" in entry
        )
    except KeyError as error:
        raise RecoveryFileError(f"{path}: the key {error} is missing") from None


def _number(value: float | None) -> float:
    """JSON's null stands for a number that JSON does not have."""
    return float("nan") if value is None else float(value)
