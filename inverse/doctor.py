"""What works on this machine, and the command that brings what does not."""

import importlib.metadata
import platform
from collections.abc import Iterator

DISTRIBUTION = "unrender"
EXTRAS = {
    "cma": "CMA-ES in `unrender compare`",
    "rl": "scenes as an environment, PPO",
    "mitsuba": "the engine `mitsuba`",
    "view": "`unrender view`: a recovery in 3D, in the browser",
    "notebooks": "notebooks/, and `inverse.explore` in a notebook of your own",
    "examples": "the simulators of examples/",
}


def report() -> str:
    """Text for `unrender doctor`: engines, devices, packages, and how to get each thing that is missing."""
    version = _version(DISTRIBUTION) or "(not installed)"
    lines = [f"unrender {version}, Python {platform.python_version()}, {platform.platform()}"]
    parts = {"engines": _engines(), "devices": _devices(), "packages": _packages(), "extras": _extras()}
    for title, part in parts.items():
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
        required = _required("")
    except ImportError as error:
        yield "packaging", f"missing: {error}"
        return
    except importlib.metadata.PackageNotFoundError:
        yield DISTRIBUTION, "not installed: pip install -e . in its folder"
        return
    for name, specifier in required:
        yield name, _version(name) or f"missing: pip install '{name}{specifier}'"


def _extras() -> Iterator[tuple[str, str]]:
    """What is optional, and what it is for."""
    for extra, purpose in EXTRAS.items():
        try:
            missing = [name for name, _ in _required(extra) if not _version(name)]
        except (ImportError, importlib.metadata.PackageNotFoundError):
            return  # said under packages
        state = f"missing ({', '.join(missing)}): pip install 'unrender[{extra}]'" if missing else "installed"
        yield extra, f"{state}; {purpose}"


def _required(extra: str) -> list[tuple[str, str]]:
    """Names and versions of what this distribution requires here: always (""), or for an extra alone."""
    from packaging.requirements import Requirement

    required = []
    for requirement in map(Requirement, importlib.metadata.requires(DISTRIBUTION) or []):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always if not extra else (marker and not always and marker.evaluate({"extra": extra})):
            required.append((requirement.name, str(requirement.specifier)))
    return required


def _version(name: str) -> str:
    """The installed version, or "" where it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
