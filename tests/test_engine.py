"""open_engine: names, what `auto` does, and what the errors say."""

import subprocess
import sys

import pytest

import render.engine
from render import Engine, EngineError, open_engine
from render.engine import check_engine
from scenes import World


@pytest.fixture(scope="module")
def world():
    return World.load("cube")


def test_unknown_name_suggests_the_nearest(world):
    with pytest.raises(ValueError, match=r"no engine 'opengel'.*did you mean 'opengl'"):
        open_engine("opengel", world)
    with pytest.raises(ValueError, match=r"only opengl, software, mitsuba, command, auto$"):
        open_engine("zzzz", world)


def test_names_of_commands_are_checked_whole():
    check_engine("command:true {scene} {image}")
    with pytest.raises(ValueError, match=r"must say \{image\}"):
        check_engine("command:true {scene}")
    with pytest.raises(ValueError, match="no engine 'opengl:true'"):
        check_engine("opengl:true")


def test_opens_opengl_by_name(world, gl):
    with open_engine("opengl", world, size=(20, 30), samples=1) as engine:
        assert isinstance(engine, Engine)
        assert engine.name == "opengl"
        assert engine.size == (20, 30)
        assert engine.render(world.sample(2)).rgb.shape == (2, 20, 30, 3)


def test_auto_prefers_opengl(world, gl):
    with open_engine("auto", world) as engine:
        assert engine.name == "opengl"


def test_auto_falls_back_with_one_warning(world, monkeypatch):
    def without(*_):
        raise EngineError("install libegl1")

    monkeypatch.setattr(render.engine, "_open_opengl", without)
    with (
        pytest.warns(UserWarning, match="software engine: install libegl1") as seen,
        open_engine("auto", world) as engine,
    ):
        assert engine.name == "software"
    assert len(seen) == 1


def test_without_opengl_says_what_to_install(world, monkeypatch):
    import moderngl

    def none(**_):
        raise Exception("(standalone) XOpenDisplay: cannot open display")

    monkeypatch.setattr(moderngl, "create_context", none)
    with pytest.raises(EngineError, match=r"cannot open display.*apt install libegl1 libgl1-mesa-dri"):
        open_engine("opengl", world)


def test_without_mitsuba_names_the_extra(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(EngineError, match=r'needs the package mitsuba: pip install "unrender\[mitsuba\]"'):
        open_engine("mitsuba", world)


def test_import_leaves_engines_alone():
    code = "import render, sys; assert not {'mitsuba', 'moderngl', 'warp', 'trimesh'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
