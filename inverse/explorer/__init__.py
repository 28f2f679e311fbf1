"""Which way each strategy would go: a widget for notebooks."""

from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from scenes.scene import Scene
from scenes.world import World

if TYPE_CHECKING:
    from inverse.explorer.widget import Explorer

__all__ = ["explore"]


def explore(
    world: World,
    picture: Float[Tensor, "row column 3"] | str | Path | None = None,
    *,
    scene: Scene | None = None,
    engine: str = "auto",
    height: int = 128,
    blur: float = 2.0,
    seed: int = 0,
) -> "Explorer":
    """A widget to move a scene about, and to see which way each strategy would go from there.

    Shows sliders for every free number of the scene (with unit and the world's range), the engine's picture,
    the picture that it ought to give, and over the engine's picture an arrow per object and strategy: where
    its gradient would move the object, with an arc for how it would turn it. The manual strategies are asked
    at every move; the others when the button is pressed.

    Args:
        world: Says what is free.
        picture: What is to be explained, sRGB-encoded [H, W, 3], or a file. None: the picture of a random
            scene, so that the truth is known and drawn too.
        scene: Where to begin (B = 1), for example a recovery's scene; needed with a picture. None: near the
            random scene.
        engine: As `render.open_engine` takes it.
        height: Of the pictures that are compared [px].
        blur: Standard deviation of the loss's blur at the beginning [px].
        seed: Of the random scene.

    Returns:
        The widget; as the last line of a cell it is shown. Its `close` gives the engine back.

    Raises:
        ImportError: If ipywidgets is missing; the message says how to install it.
        ValueError: If there is a picture but no scene.
        EngineError: If the engine cannot be opened.
        PictureError: If the picture cannot be read, or has not the camera's proportions.
    """
    try:
        from inverse.explorer.widget import Explorer
    except ImportError as error:
        raise ImportError(
            'the explorer needs ipywidgets; install it with: pip install "unrender[notebooks]"'
        ) from error
    from inverse.explorer.exploration import Exploration
    from inverse.picture import fitted, read_picture

    if isinstance(picture, str | Path):
        read, _ = fitted(read_picture(picture), world.camera.width, world.camera.height)
        picture = read.rgb
    return Explorer(Exploration(world, picture, scene, engine=engine, height=height, blur=blur, seed=seed))
