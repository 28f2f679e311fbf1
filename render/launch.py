"""Launching Warp kernels on PyTorch tensors: views, streams, host threads."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp
from torch import Tensor

from render.compilation import start

start()  # wp.from_torch as a process's first Warp call fails without it

REAL = {torch.float32: wp.float32, torch.float64: wp.float64}
_WORTH_A_THREAD = 150_000  # numbers per host thread; below, starting a thread costs more than it saves


def view(tensor: Tensor, dtype: Any = None) -> Any:
    """A Warp view of a contiguous tensor's memory; gradients are the operators' business, not Warp's."""
    return wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False)


def launch(
    kernel: Any, dim: tuple[int, ...], *, inputs: list[Any], outputs: list[Any], device: torch.device
) -> None:
    """Launch on `device`, on a GPU in PyTorch's current stream."""
    stream = wp.stream_from_torch(device) if device.type == "cuda" else None
    wp.launch(kernel, dim=dim, inputs=inputs, outputs=outputs, device=str(device), stream=stream)


def thread_count(device: torch.device, *, numbers: int) -> int:
    """How many host threads share work on that many numbers: 1 on a GPU or where the work is small."""
    if device.type == "cuda":
        return 1
    return max(1, min(torch.get_num_threads(), numbers // _WORTH_A_THREAD))


def in_threads(threads: int, job: Callable[[int], None]) -> None:
    """Run job(0) ... job(threads - 1) side by side. Warp itself runs a CPU launch on one thread."""
    if threads == 1:
        job(0)
    else:
        list(_pool(threads).map(job, range(threads)))


def part(index: int, parts: int, count: int) -> tuple[int, int]:
    """First and past-the-last item of the `index`-th of `parts` equal shares of `count` items."""
    return count * index // parts, count * (index + 1) // parts


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="unrender-warp")
