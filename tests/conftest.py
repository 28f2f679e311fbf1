"""Fixtures of every test: devices, and OpenGL where it can be had."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from render.engine import EngineError
from render.opengl import OpenGLEngine
from scenes.world import World


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


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
