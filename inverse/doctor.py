"""What works on this machine, and the command that brings what does not."""

import importlib.metadata
import platform
from collections.abc import Iterator

DISTRIBUTION = "unrender"


def report() -> str:
    """Text for `unrender doctor`: engines, devices, packages, and how to get each thing that is missing."""
    lines = [f"unrender {_version(DISTRIBUTION)}, Python {platform.python_version()}, {platform.platform()}"]
    for title, part in (("engines", _engines()), ("devices", _devices()), ("packages", _packages())):
        lines += ["", title, *(f"  {name:<12}{state}" for name, state in part)]
    return "\n".join(lines)


def _engines() -> Iterator[tuple[str, str]]:
    try:
        from render.engine import EngineError
        from render.opengl.context import open_context
    except ImportError as error:
        yield "opengl", f"missing: {error}"
    else:
        try:
            context = open_context()
        except EngineError as error:
            yield "opengl", f"missing: {error}"
        else:
            info = context.info
            yield "opengl", f"works: {info['GL_RENDERER']}, OpenGL {info['GL_VERSION']}"
            context.release()
    try:
        import render.software  # noqa: F401  (only whether it can be imported)
    except ImportError as error:
        yield "software", f"missing: {error}"
    else:
        yield "software", "works"


def _devices() -> Iterator[tuple[str, str]]:
    try:
        import torch
    except ImportError as error:
        yield "torch", f"missing: {error}"
    else:
        names = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
        yield "torch", f"{', '.join(['cpu', *names])}; {torch.get_num_threads()} threads"
    try:
        import warp

        from render.compilation import KernelError, start
    except ImportError as error:
        yield "warp", f"missing: {error}"
    else:
        try:
            start()
        except KernelError as error:
            yield "warp", f"does not start: {error}"
        else:
            yield "warp", ", ".join(f"{d.alias} ({d.name})" for d in warp.get_devices())


def _packages() -> Iterator[tuple[str, str]]:
    """Each package that this one requires here, with its version or how to install it."""
    try:
        from packaging.requirements import Requirement
    except ImportError as error:
        yield "packaging", f"missing: {error}"
        return
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield DISTRIBUTION, "not installed: pip install -e . in its folder"
        return
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue  # an extra, or for another version of Python
        name = requirement.name
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, f"missing: pip install '{name}{requirement.specifier}'"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
