"""Fixtures of every test: devices, OpenGL where it can be had, worlds and the engines that draw them."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from render.engine import EngineError
from render.opengl import OpenGLEngine
from render.software import SoftwareEngine
from scenes.world import World


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def gl() -> None:
    """Skips where OpenGL cannot be had, and says why; with REQUIRE_GL=1 that is a failure."""
    from render.opengl.context import open_context

    try:
        open_context().release()
    except EngineError as error:
        if os.environ.get("REQUIRE_GL") == "1":
            pytest.fail(f"REQUIRE_GL=1, but {error}")
        pytest.skip(str(error))


@pytest.fixture
def open_gl(gl: None) -> Iterator[Callable[..., OpenGLEngine]]:
    """Opens OpenGL engines; afterwards no OpenGL call may have failed, and all are closed."""
    engines: list[OpenGLEngine] = []

    def opened(world: World, **options: Any) -> OpenGLEngine:
        engines.append(OpenGLEngine(world, **options))
        return engines[-1]

    yield opened
    errors = []
    for engine in engines:
        if engine._painter is not None:
            with engine._painter.context:
                errors.append(engine._painter.context.error)
        engine.close()
    assert set(errors) <= {"GL_NO_ERROR"}


@pytest.fixture(scope="session")
def cube() -> World:
    """The bundled world of one cube."""
    return World.load("cube")


@pytest.fixture(scope="session")
def table() -> World:
    """The bundled tabletop with two objects out of four: tinted, round, textured, and with corners."""
    world = World.load("tabletop")
    names = ("mug", "bowl", "block", "book")
    return replace(world, assets=tuple(world.assets[world.index(n)] for n in names), count=(2, 2))


@pytest.fixture(scope="session")
def cube_engine(cube: World) -> Iterator[SoftwareEngine]:
    with SoftwareEngine(cube, size=(64, 64)) as engine:
        yield engine


@pytest.fixture(scope="session")
def table_engine(table: World) -> Iterator[SoftwareEngine]:
    with SoftwareEngine(table, size=(64, 64)) as engine:
        yield engine
