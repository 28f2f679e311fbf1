"""The OpenGL engine's life: threads, forks, contexts, leaks, limits, and every way to misuse it."""

import ctypes
import math
import multiprocessing
import threading
from dataclasses import replace

import pytest
import torch
from quads import quad, scene_of, tabletop, world_of

from render import EngineError


def test_several_engines_in_one_thread(open_gl):
    """Each draws with its own context, whichever was used last."""
    world, scenes = tabletop(2)
    first, second = open_gl(world, size=(32, 32)), open_gl(world_of(quad()), size=(16, 16))
    want, other = first.render(scenes), second.render(scene_of())
    for _ in range(3):
        assert torch.equal(first.render(scenes).rgb, want.rgb)
        assert torch.equal(second.render(scene_of()).rgb, other.rgb)
    second.close()
    assert torch.equal(first.render(scenes).rgb, want.rgb)


def test_other_thread_is_an_error(open_gl):
    engine, caught = open_gl(world_of(quad()), size=(8, 8)), []

    def draw():
        try:
            engine.render(scene_of())
        except EngineError as error:
            caught.append(str(error))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert "open one engine in each thread" in caught[0]
    assert (engine.render(scene_of()).instance_id == 0).any()


def _draw_in_child(engine, queue):
    try:
        engine.render(scene_of())
    except EngineError as error:
        queue.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child_is_an_error(open_gl):
    engine = open_gl(world_of(quad()), size=(8, 8))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_draw_in_child, args=(engine, queue))
    child.start()
    child.join(20)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive
    assert "forked" in queue.get()
    assert (engine.render(scene_of()).instance_id == 0).any()


def test_closed_engine_is_an_error(open_gl):
    engine = open_gl(world_of(quad()), size=(8, 8))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.render(scene_of())


def test_nothing_leaks_over_many_renders(open_gl):
    """After 900 renders, most in sizes not seen lately, as many OpenGL objects live as after the first 30."""
    engine = open_gl(world_of(quad()), size=(8, 8), shadow_size=16)

    def living():
        with engine._painter.context as context:
            counts = []
            for kind in ("glIsFramebuffer", "glIsTexture"):
                exists = ctypes.CFUNCTYPE(ctypes.c_ubyte, ctypes.c_uint)(context.mglo._context.load(kind))
                counts.append(sum(exists(name) for name in range(1, 20000)))
            return counts

    def draw():
        for size in range(4, 14):
            for batch in (1, 2, 4):
                engine.render(scene_of()[[0] * batch], size=(size, size))

    draw()
    before = living()
    for _ in range(30):
        draw()
    assert living() == before


def test_open_and_close_many_times(gl, open_gl):
    world = world_of(quad())
    for _ in range(30):
        engine = open_gl(world, size=(8, 8))
        assert (engine.render(scene_of()).instance_id == 0).any()
        engine.close()


def test_sizes_beyond_the_limits(open_gl):
    engine = open_gl(world_of(quad()), size=(8, 8))
    with pytest.raises(EngineError, match="at most"):
        engine.render(scene_of(), size=(100000, 8))
    with pytest.raises(ValueError, match="at least 1"):
        engine.render(scene_of(), size=(0, 8))


@pytest.mark.parametrize("settings", [{"samples": 5}, {"samples": 0}, {"shadow_size": 1}])
def test_settings_out_of_range(settings):
    from render.opengl import OpenGLEngine

    with pytest.raises(ValueError, match=next(iter(settings))):
        OpenGLEngine(world_of(quad()), **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"asset": torch.tensor([[1]])}, r"asset must lie in -1\.\.0, got 1"),
        (
            {"translation": torch.full((1, 1, 3), math.nan)},
            r"translation must be finite, got nan at \[0, 0, 0\]",
        ),
        ({"scale": torch.zeros(1, 1)}, r"scale must be positive, got 0 at \[0, 0\]"),
        ({"rotation": torch.zeros(1, 1, 4)}, "rotation must not be zero"),
        ({"colour": torch.full((1, 1, 3), math.inf)}, "colour must be finite"),
        ({"background": torch.full((1, 3), math.nan)}, "background must be finite"),
    ],
)
def test_scenes_that_cannot_be_drawn(open_gl, change, message):
    engine = open_gl(world_of(quad()), size=(8, 8))
    with pytest.raises(ValueError, match=message):
        engine.render(replace(scene_of(), **change))


def test_odd_inputs(open_gl):
    """Gradients, other precisions, expanded and transposed tensors, quaternions of other lengths."""
    engine = open_gl(world_of(quad()), size=(16, 16))
    want = engine.render(scene_of(assets=(0, 0), at=((0, 0, -1), (0, 0, -1)))).rgb
    scene = scene_of(assets=(0, 0), at=((0, 0, -1), (0, 0, -1)))
    scene = replace(
        scene,
        translation=torch.tensor([[0.0], [0.0], [-1.0]]).T.expand(1, 2, 3).requires_grad_(),
        rotation=2.0 * scene.rotation.double(),
    )
    got = engine.render(scene).rgb
    assert torch.equal(got, want)
    assert not got.requires_grad
