"""refinement.json, beside recovery.json: the scenes that were tried on the way, to be looked at afterwards.

    {"format": "unrender-refinement/1",
     "steps": [{"stage": "birth", "loss": 0.1, "renders": 114, "seconds": 2.0,
                "camera": {...}, "lights": [...], "background": [...], "objects": [...]}]}

Scenes are written as in recovery.json.
"""

from pathlib import Path

import numpy as np

from inverse.recovery import Recovery, Step
from inverse.recoveryfile import RecoveryFileError, read_json, scene_json, scene_of, write_json
from scenes.world import World

FORMAT = "unrender-refinement/1"
STEPS = 48  # most written, evenly spaced


def write_steps(recovery: Recovery, path: Path) -> None:
    """Write the steps whose scenes were kept, at most `STEPS` of them, first and last among them.

    Raises:
        OutputError: If the file cannot be written.
    """
    kept = [(step, step.scene) for step in recovery.history if step.scene is not None]
    chosen = np.unique(np.linspace(0, len(kept) - 1, min(STEPS, len(kept))).round().astype(int))
    steps = [
        {
            "stage": step.stage,
            "loss": step.loss,
            "renders": step.renders,
            "seconds": step.seconds,
            **scene_json(scene, recovery.world),
        }
        for step, scene in (kept[i] for i in chosen)
    ]
    write_json(path, {"format": FORMAT, "steps": steps}, indent=None)


def read_steps(path: Path, world: World) -> tuple[Step, ...]:
    """The steps in a refinement.json, each with its scene.

    Raises:
        RecoveryFileError: If it cannot be read, is damaged, or does not fit the world.
    """
    try:
        return tuple(
            Step(
                stage=str(step["stage"]),
                loss=float(step["loss"]),
                renders=int(step["renders"]),
                seconds=float(step["seconds"]),
                scene=scene_of(step, world, path),
            )
            for step in read_json(path, FORMAT)["steps"]
        )
    except KeyError as error:
        raise RecoveryFileError(f"{path}: the key {error} is missing") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, RecoveryFileError):
            raise
        raise RecoveryFileError(f"{path}: is damaged ({error})") from None
