"""recover: from one picture to a scene."""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from inverse.encoder.network import Encoder
from inverse.encoder.stored import load_encoder
from inverse.glance import Glance
from inverse.least_differences import Fit, Judge
from inverse.losses import Evidence, noise_floor, psnr
from inverse.picture import fitted, read_picture
from inverse.recovery import Hypothesis, Recovery, Step
from inverse.refine import RefineSettings, descend
from inverse.search import Search
from inverse.sketch import Sketcher
from inverse.verdict import filled_slots, found_objects, same_picture
from inverse.view_search import ViewSearch
from inverse.views import background_of, foreground
from render.checks import check_name
from render.differentiable import differentiable
from render.engine import open_engine
from render.launch import pytorch_alone
from render.shading import decode_srgb
from scenes import Scene, World
from scenes.weights import WeightsError

_GRID_SIDE = 128  # [px] of a square with as many pixels as are judged where objects keep to a grid of moves
_FREE_SIDE = 256  # [px] longer side judged where they float freely: their size in the picture is not known
_NEARLY = 0.9  # scale above which the picture is judged as it is: resampling costs exactness and saves little
_COARSE = 0.005  # share of wrong pixels above which gradients are tried once more
_DOUBTFUL = 0.02  # share of wrong pixels above which search is not left out after a glance
_GLANCED = 64  # [px] side of a square as large as the pictures that tell readings of the encoder apart
_FRAMES = 48  # most kept for the animation
_UNEXPLAINED = 0.01  # share of wrong pixels above which the user is told


def recover(
    image: Float[Tensor, "row column 3"] | str | Path,
    world: World,
    *,
    strategy: str = "manual",
    operator: str = "edge",
    engine: str = "auto",
    mask: Bool[Tensor, "row column"] | None = None,
    start: Scene | None = None,
    encoder: Encoder | str | None = "auto",
    seed: int = 0,
    device: str = "cpu",
    steps: int | None = None,
    progress: bool = False,
) -> Recovery:
    """The scene behind a picture: its assets, their poses, sizes and colours, the light, the camera.

    A trained encoder proposes at a glance, where the world has one; search proposes objects from small
    sketches where there is none, or where the engine's picture says that the glance was wrong. Gradients
    refine what starts coarse, least differences of the engine's pictures finish, and the engine's own picture
    judges. The same arguments give the same answer, on any number of threads: PyTorch's own operators run on
    one while this lasts (`render.launch.pytorch_alone`).

    Args:
        image: sRGB-encoded in [0, 1], of the world's camera's width and height; or a file.
        world: What may be in the picture.
        strategy: Whose gradients refine; see `render.differentiable`. "surrogate" is the local kind.
        operator: Of the manual strategy.
        engine: Whose pictures are compared: "auto", "opengl" or "software".
        mask: Where the objects are, if that is known. Without one a uniform background gives it.
        start: A scene to begin from (B = 1). Then search is used only if refining it does not explain the
            picture.
        encoder: Of the same world; "auto": the one beside the world, if there is one and it was trained for
            the world as it is (else the recovery's messages say what differs); None: search alone.
        seed: Turns the grid of rotations that search begins from.
        device: Where gradient operators run.
        steps: Of gradient refinement; None: 60. With 0 least differences alone refine.
        progress: Show a progress bar on stderr.

    Returns:
        The recovery. It may hold no object; each object has its verdict.

    Raises:
        ValueError: If the image does not fit the world's camera, a name is unknown, or objects float freely
            before a background that is not uniform and there is no mask.
        EngineError: If the engine cannot be opened.
    """
    refused = ""
    if isinstance(encoder, str):
        check_name("encoder", encoder, ("auto",))
        encoder, refused = _beside(world)
    if not isinstance(image, Tensor):
        picture, read = fitted(read_picture(image), world.camera.width, world.camera.height)
        image, mask = picture.rgb, read if mask is None else mask
    _check(image, world, mask, start)
    free = world.placement == "free" and all(i.free for i in world.position)
    size = _judged_size(world, free)
    background = background_of(image) if free else None
    if mask is not None:
        covered: Tensor | None = mask.float()
    else:
        covered = None if background is None else foreground(image, background)
    if free and covered is None:
        raise ValueError(
            "the background has no uniform colour, so the objects' outlines are not known: give a mask"
        )
    evidence = Evidence(image, covered).resized(size)
    settings = RefineSettings(steps=60 if steps is None else steps)
    with (
        pytorch_alone(),
        open_engine(engine, world, size=size) as opened,
        tqdm(disable=not progress, unit=" pictures", leave=False) as bar,
    ):
        render = differentiable(opened, strategy, **_options(strategy, operator))
        judge = Judge(opened, world, evidence)
        judge.watch = record = _Record(bar)
        sketcher = Sketcher(world, exposed=not free)
        search = (ViewSearch if free else Search)(judge, sketcher, seed=seed)

        fit = None
        if start is not None:
            fit = _refined(judge, search, judge.fit(start), render, settings, device)
        elif encoder is not None:
            fit = _at_a_glance(judge, search, encoder, render, settings, device)
        if fit is None or not _explained(search, fit, start is None):
            empty = world.empty()
            if background is not None:
                empty = replace(empty, background=decode_srgb(background)[None])
            found = search.run(judge.fit(empty))
            if search.excess(found) > _COARSE * found.cost.numel() and filled_slots(found):
                found = _refined(judge, search, found, render, settings, device)
            fit = found if fit is None or found.total < fit.total else fit
        recovery = _recovery(judge, search, fit, record, strategy, operator, seed)
        return replace(recovery, messages=(*recovery.messages, refused)) if refused else recovery


def _beside(world: World) -> tuple[Encoder | None, str]:
    """The encoder beside a world, and why it is not used where it is not."""
    try:
        return load_encoder(world), ""
    except WeightsError as error:
        return None, f"Searched without an encoder: {error}."


def _at_a_glance(
    judge: Judge,
    search: Search | ViewSearch,
    encoder: Encoder,
    render: torch.nn.Module,
    settings: RefineSettings,
    device: str,
) -> Fit:
    """What the encoder sees, refined and repaired."""
    glance = Glance(encoder, judge.evidence.image)
    fit = judge.fit(glance.first(judge.coarser(_GLANCED)))
    judge.note("glance", fit)
    if isinstance(search, ViewSearch):
        return search.improve(fit, glance)

    def descended(start: Fit) -> Fit:
        return judge.fit(descend(render, judge, start.scene, settings, device=device))

    return search.improve(fit, glance, descended)


def _explained(search: Search | ViewSearch, fit: Fit, glanced: bool) -> bool:
    """True where a whole search is not worth its time: nothing, or little after a glance, is left wrong."""
    return search.content(fit) or (glanced and search.excess(fit) < _DOUBTFUL * fit.cost.numel())


def _options(strategy: str, operator: str) -> dict[str, str]:
    """Of a strategy: as a user would choose who only names it."""
    return {"manual": {"operator": operator}, "surrogate": {"kind": "local"}}.get(strategy, {})


class _Record:
    """The way to a recovery: its steps and pictures, shown as progress."""

    def __init__(self, bar: "tqdm[None]") -> None:
        self.began, self.bar = time.perf_counter(), bar
        self.history: list[Step] = []
        self.frames: list[Tensor] = []

    def __call__(self, stage: str, fit: Fit, renders: int) -> None:
        """Keep a step of the way."""
        loss = fit.total / fit.cost.numel()
        self.history.append(Step(stage, loss, renders, time.perf_counter() - self.began, fit.scene))
        self.frames.append(fit.image)
        count = len(filled_slots(fit))
        found = f"{count} object{'s' * (count != 1)}, {fit.total:.0f} wrong pixels"
        self.bar.set_description(f"{stage}: {found}", refresh=False)
        self.bar.update(renders - self.bar.n)


def _check(image: Tensor, world: World, mask: Tensor | None, start: Scene | None) -> None:
    expected = [world.camera.height, world.camera.width, 3]
    if list(image.shape) != expected or not image.is_floating_point():
        raise ValueError(
            f"the image must be of floats and have shape {expected} as the world's camera, "
            f"got {image.dtype} {list(image.shape)}"
        )
    if not bool(image.isfinite().all()):
        raise ValueError("the image holds numbers that are not finite")
    if mask is not None and list(mask.shape) != expected[:2]:
        raise ValueError(f"the mask must have the image's shape {expected[:2]}, got {list(mask.shape)}")
    if start is not None and len(start) != 1:
        raise ValueError(f"start must be one scene, got {len(start)}")


def _refined(
    judge: Judge,
    search: Search | ViewSearch,
    fit: Fit,
    render: torch.nn.Module,
    settings: RefineSettings,
    device: str,
) -> Fit:
    """Gradients, coarse to fine, then least differences; never worse than `fit`."""
    if settings.steps == 0:
        return search.settle(fit)
    trial = search.settle(judge.fit(descend(render, judge, fit.scene, settings, device=device)))
    judge.note("gradients", trial)
    return trial if trial.total < fit.total else search.settle(fit)


def _recovery(
    judge: Judge,
    search: Search | ViewSearch,
    fit: Fit,
    record: _Record,
    strategy: str,
    operator: str,
    seed: int,
) -> Recovery:
    """Everything that is to be told of the result."""
    best, hypotheses, poses = same_picture(judge, fit)
    if best is not fit:
        fit = judge.polish(best, iterations=4, pixels=0.5)
    floor = noise_floor(fit.image - judge.evidence.image, judge.evidence.tau)
    objects = found_objects(judge, fit, floor, poses)
    loss = fit.total / fit.cost.numel()
    messages = [f"{o.asset}: {o.reason}." for o in objects if o.reason]
    wrong = max(0.0, loss - floor)
    if wrong > _UNEXPLAINED:
        messages.append(f"{wrong:.1%} of the picture is not explained.")
    if hypotheses:
        count = len(hypotheses)
        others = f"{count} other scenes give" if count > 1 else "another scene gives"
        messages.append(f"The picture is ambiguous: {others} it too; see hypotheses.")
    judge.note("result", fit)
    keep = torch.linspace(0, len(record.frames) - 1, min(_FRAMES, len(record.frames))).round().long().tolist()
    return Recovery(
        world=judge.world,
        scene=fit.scene,
        objects=objects,
        picture=judge.evidence.image,
        image=fit.image,
        instance_id=fit.instance_id,
        loss=loss,
        psnr=psnr(fit.image, judge.evidence.image),
        renders=judge.renders,
        seconds=time.perf_counter() - record.began,
        hypotheses=(
            Hypothesis(fit.scene, loss, "best", fit.image),
            *sorted(hypotheses, key=lambda h: h.loss),
        ),
        ambiguous=bool(hypotheses),
        messages=tuple(messages),
        history=tuple(record.history),
        frames=tuple(record.frames[i] for i in keep),
        engine=judge.engine.name,
        strategy=strategy,
        operator=operator,
        seed=seed,
    )


def _judged_size(world: World, free: bool) -> tuple[int, int]:
    """Size (H, W) [px] of the pictures that are compared: multiples of 4, not larger than the picture."""
    height, width = world.camera.height, world.camera.width
    scale = _FREE_SIDE / max(height, width) if free else _GRID_SIDE / math.sqrt(height * width)
    scale = 1.0 if scale > _NEARLY else scale
    return max(16, round(height * scale / 4) * 4), max(16, round(width * scale / 4) * 4)
