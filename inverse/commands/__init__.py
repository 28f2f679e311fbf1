"""The work behind each command of the command line."""

from collections.abc import Callable
from typing import Any

from inverse import cli
from inverse.commands.compare import compare_strategies
from inverse.commands.pictures import render_scene, sample_pictures
from inverse.commands.recover import recover_picture
from inverse.commands.train import train_network
from inverse.commands.usage import UsageError
from inverse.commands.view import view_scene
from inverse.picture import PictureError
from inverse.recoveryfile import RecoveryFileError
from inverse.training.checkpoint import CheckpointError
from render.compilation import KernelError
from render.engine import EngineError
from scenes import WorldError
from scenes.files import OutputError
from scenes.gltf import SceneFileError
from scenes.intrinsics import IntrinsicsError
from scenes.meshfile import MeshError
from scenes.weights import WeightsError

USER_ERRORS = (
    CheckpointError,
    EngineError,
    IntrinsicsError,
    KernelError,
    MeshError,
    OutputError,
    PictureError,
    RecoveryFileError,
    SceneFileError,
    UsageError,
    WeightsError,
    WorldError,
)


_WORK: dict[type, Callable[[Any], int]] = {
    cli.Compare: compare_strategies,
    cli.Recover: recover_picture,
    cli.Render: render_scene,
    cli.Sample: sample_pictures,
    cli.Train: train_network,
    cli.View: view_scene,
}


def run(command: object) -> int:
    """Do what the command says and return the exit status.

    Raises:
        One of `USER_ERRORS`: If the user can put it right; the message says how.
    """
    return _WORK[type(command)](command)
