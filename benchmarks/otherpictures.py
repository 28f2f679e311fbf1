"""The same scenes as pictures of other kinds: what a recovery or an encoder meets outside its own engine.

    python benchmarks/otherpictures.py street --out sheet.png [--count 4] [--seed 0] [--kinds clean mitsuba]

`variants` is for other benchmarks; the command writes a sheet to look at, a row for each scene.
"""

import argparse
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from inverse.picture import levels
from render.blur import gaussian_blur
from render.engine import Engine, open_engine
from render.shading import decode_srgb, encode_srgb
from scenes import Scene, World

Pictures = Float[Tensor, "batch row column 3"]

FINE = 3  # pixels a side, for each of the picture's, at which an object's outline is told from its background
MITSUBA_SAMPLES = 16  # paths per pixel: 2/255 of noise are left, a picture takes half a second
PATCHES = 4  # random colours along the shorter side of a smooth background


@dataclass(frozen=True)
class _Given:
    """What a kind of pictures is made from."""

    engine: Engine  # the world's own, of the size wanted
    scene: Scene
    clean: Pictures  # the engine's, rounded to 8 bits
    generator: torch.Generator


def variants(
    world: World,
    scene: Scene,
    seed: int,
    *,
    kinds: Sequence[str] | None = None,
    engine: str = "opengl",
    size: tuple[int, int] | None = None,
) -> dict[str, Pictures]:
    """The scenes as pictures of every kind, rounded to 8 bits as files are.

    The same arguments give the same pictures; each kind is random by itself, so that leaving one out changes
    no other. Noise and blur are of the encoded colours. Backgrounds replace all that is no object, scenery
    and the shadows on it included, and so take away what tells the light.

    Args:
        world: Whose assets the scenes index.
        scene: B scenes; some tens at once, as backgrounds are drawn at three times the size.
        seed: Of noise and backgrounds; another one for each batch.
        kinds: Keys of `KINDS`, in the order wanted; all when left out.
        engine: The world's own, which draws everything but "mitsuba". It needs instance ids.
        size: (H, W) [px]; the camera's own when left out.

    Returns:
        [B, H, W, 3] in [0, 1], sRGB-encoded, for each kind.

    Raises:
        ValueError: If a kind is not one of `KINDS`, or the engine has no ids.
        EngineError: If an engine cannot be opened, for example for want of a package.
    """
    kinds = list(KINDS) if kinds is None else kinds
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"no pictures of the kind {kind!r}, only {', '.join(KINDS)}")
    size = (world.camera.height, world.camera.width) if size is None else size
    found = {}
    with open_engine(engine, world, size=size) as own:
        clean = _rounded(own.render(scene).rgb)
        for kind in kinds:
            generator = torch.Generator().manual_seed(seed)
            found[kind] = _rounded(KINDS[kind](_Given(own, scene, clean, generator)))
    return found


def _clean(given: _Given) -> Pictures:
    return given.clean


def _by_mitsuba(given: _Given) -> Pictures:
    """Another engine's light: soft shadows, surfaces that light one another, corners without a sky."""
    own = given.engine
    with open_engine("mitsuba", own.world, size=own.size, samples=MITSUBA_SAMPLES) as other:
        return other.render(given.scene).rgb


def _noisy(given: _Given, *, sigma: float) -> Pictures:
    return given.clean + sigma * torch.randn(given.clean.shape, generator=given.generator)


def _blurred(given: _Given, *, sigma: float) -> Pictures:
    margin = math.ceil(4.0 * sigma)  # beyond the border the picture goes on as it ends
    channels = given.clean.movedim(-1, 1)
    wide = torch.nn.functional.pad(channels, [margin] * 4, mode="replicate").movedim(1, -1).contiguous()
    return gaussian_blur(wide, sigma)[:, margin:-margin, margin:-margin]


def _jpeg(given: _Given, *, quality: int) -> Pictures:
    """Written as JPEG, colours at half the resolution as is usual, and read again."""
    pictures = []
    for picture in levels(given.clean):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="JPEG", quality=quality)
        pictures.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(pictures)).float() / 255.0


def _before(
    given: _Given, *, colours: Callable[[int, tuple[int, int], torch.Generator], Pictures]
) -> Pictures:
    """The objects before other backgrounds, mixed along their outlines in linear light."""
    engine, scene = given.engine, given.scene
    height, width = engine.size
    frame = engine.render(scene, size=(FINE * height, FINE * width))
    if frame.instance_id is None:
        raise ValueError(f"other backgrounds need an engine with instance ids; {engine.name} has none")
    of_object = (frame.instance_id >= 0) & (frame.instance_id < scene.slots)
    behind = colours(len(scene), engine.size, given.generator)
    behind = behind.repeat_interleave(FINE, 1).repeat_interleave(FINE, 2)
    linear = decode_srgb(torch.where(of_object[..., None], frame.rgb, behind))
    return encode_srgb(linear.view(-1, height, FINE, width, FINE, 3).mean((2, 4)))


def _flat(batch: int, size: tuple[int, int], generator: torch.Generator) -> Pictures:
    """One random colour for each picture."""
    return torch.rand(batch, 1, 1, 3, generator=generator).expand(batch, *size, 3)


def _smooth(batch: int, size: tuple[int, int], generator: torch.Generator) -> Pictures:
    """Random colours that pass into one another."""
    patches = [max(2, round(PATCHES * side / min(size))) for side in size]
    coarse = torch.rand(batch, 3, *patches, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    return fine.clamp(0.0, 1.0).movedim(1, -1)


KINDS: dict[str, Callable[[_Given], Pictures]] = {
    "clean": _clean,
    "mitsuba": _by_mitsuba,
    "noise 0.03": partial(_noisy, sigma=0.03),
    "noise 0.08": partial(_noisy, sigma=0.08),
    "blur 1 px": partial(_blurred, sigma=1.0),
    "jpeg 50": partial(_jpeg, quality=50),
    "jpeg 30": partial(_jpeg, quality=30),
    "flat background": partial(_before, colours=_flat),
    "smooth background": partial(_before, colours=_smooth),
}


def _rounded(pictures: Pictures) -> Pictures:
    return torch.from_numpy(levels(pictures)).float() / 255.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a sheet as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="opengl")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path, required=True)
    options: Any = parser.parse_args(arguments)
    world = World.load(options.world)
    scene = world.sample(options.count, generator=torch.Generator().manual_seed(options.seed))
    drawn = variants(world, scene, options.seed, kinds=options.kinds, engine=options.engine)
    _sheet(drawn, options.out)


def _sheet(drawn: dict[str, Pictures], path: Path) -> None:
    """A row for each scene, a column for each kind."""
    from matplotlib.figure import Figure

    count, height, width = next(iter(drawn.values())).shape[:3]
    figure = Figure(figsize=(3.0 * len(drawn), 3.0 * count * height / width + 0.3), dpi=100, layout="tight")
    panels = figure.subplots(count, len(drawn), squeeze=False)
    for column, (kind, pictures) in zip(panels.T, drawn.items(), strict=True):
        column[0].set_title(kind)
        for panel, picture in zip(column, pictures, strict=True):
            panel.imshow(picture.numpy(), interpolation="nearest")
            panel.set_axis_off()
    figure.savefig(path)


if __name__ == "__main__":
    main()
