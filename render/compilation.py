"""Compiling Warp kernels at first use: said aloud, and a failure explained."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import warp as wp

# of kernels: their adjoints are other kernels, and CPUs fuse multiplications with additions as GPUs do
OPTIONS = {
    "enable_backward": False,
    "cpu_compiler_flags": f"{wp.config.cpu_compiler_flags or '-march=native'} -ffp-contract=fast",
}
BLOCK = 256  # threads that a GPU runs together, unless a kernel says otherwise


class KernelError(RuntimeError):
    """The kernels cannot be compiled or loaded here; the message says why and what to do."""


def start() -> None:
    """Start Warp, silently. Must come before `wp.from_torch`, which crashes as a process's first Warp call.

    Raises:
        KernelError: If Warp cannot start, as where its cache folder cannot be made.
    """
    wp.config.log_level = wp.LOG_WARNING  # no banner: a library prints nothing when it is imported
    try:
        with _no_stderr():
            wp.init()
    except (OSError, RuntimeError) as e:
        raise KernelError(_sentence(e)) from e


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Keep stderr silent: past Python, Warp warns there of every machine without a GPU's driver."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    sys.stderr.flush()
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@functools.cache
def load(module: str, device: str) -> None:
    """Compile the kernels of a Python module for a device, or load them from Warp's cache.

    Say so on stderr before it takes seconds. Launches after it do not compile, also from several host
    threads.

    Args:
        module: The module's name, as in `__name__`; for its kernels with `module="unique"` see `load_unique`.
        device: "cpu" or "cuda:0" and so on.

    Raises:
        KernelError: If that fails, as where the cache folder cannot be written.
    """
    _load(module, lambda: [wp.get_module(module)], device)


@functools.cache
def load_unique(module: str, kernels: tuple[Any, ...], device: str, block: int = BLOCK) -> None:
    """The same as `load` for kernels that a function of the Python module `module` made, each on its own.

    Args:
        module: Its name.
        kernels: Its kernels.
        device: As for `load`.
        block: How many threads a block has when they are launched on a GPU.
    """
    _load(module, lambda: [k.module for k in kernels], device, block)


def _load(name: str, modules: Callable[[], list[Any]], device: str, block: int = BLOCK) -> None:
    block = 1 if device == "cpu" else block
    try:
        found = modules()
        if not all(_cached(m, device, block) for m in found):
            _announce(name.removesuffix(".kernels"), device)
        loaded = [m.load(wp.get_device(device), block_dim=block) for m in found]
    except Exception as e:  # Warp raises OSError, RuntimeError and bare Exception
        raise KernelError(_sentence(e)) from e
    if any(m is None for m in loaded):
        raise KernelError(_sentence("its compiler gave no result"))


@functools.cache
def _announce(subject: str, device: str) -> None:
    """Say what takes seconds; of several sets of kernels on one subject, the first time only."""
    from tqdm import tqdm

    # not print: there may be a progress bar on the line
    tqdm.write(f"unrender: compiling {subject} for {device}, once; this takes seconds", file=sys.stderr)


def _cached(kernels: Any, device: str, block: int) -> bool:
    """True where Warp's cache holds this module for the device."""
    # one folder per version of the source
    folder = Path(str(wp.config.kernel_cache_dir), kernels.get_module_identifier(block))
    suffix = ".o" if device == "cpu" else (".ptx", ".cubin")
    return folder.is_dir() and any(f.name.endswith(suffix) for f in folder.iterdir())


def _sentence(reason: object) -> str:
    return (
        f"Warp cannot compile or load its kernels: {reason}. Its cache folder must be writable: "
        "set WARP_CACHE_PATH to a folder that is"
    )
