"""What `unrender doctor` says where something is missing."""

import importlib.metadata

from inverse.doctor import report
from render.engine import EngineError


def test_names_what_works():
    lines = report().splitlines()
    assert lines[0].startswith("unrender ")
    for name in ("opengl", "software", "torch", "warp"):
        assert any(line.split()[:1] == [name] for line in lines)
    assert any("cpu" in line for line in lines if "warp  " in line)


def test_missing_opengl_names_the_packages(monkeypatch):
    def fail():
        raise EngineError("no OpenGL 3.3 context could be made; apt install libegl1")

    monkeypatch.setattr("render.opengl.context.open_context", fail)
    assert "missing: no OpenGL 3.3 context could be made; apt install libegl1" in report()


def test_missing_package_names_the_command(monkeypatch):
    def version(name):
        if name == "trimesh":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    required = ["numpy>=2", "tomli>=2; python_version < '3'", "trimesh>=4.0", "trimesh>=4; extra == 'cma'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: required)
    monkeypatch.setattr(importlib.metadata, "version", version)
    lines = report().splitlines()
    begin = lines.index("packages")
    assert lines[begin + 1].split() == ["numpy", "1.0"]
    assert lines[begin + 2].strip() == "trimesh     missing: pip install 'trimesh>=4.0'"
    begin = lines.index("extras")
    assert lines[begin + 1].split("; ")[0].split(None, 1) == [
        "cma",
        "missing (trimesh): pip install 'unrender[cma]'",
    ]
    assert "installed" in lines[begin + 2]
