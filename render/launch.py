"""Launching Warp kernels on PyTorch tensors: views, streams, host threads."""

import ctypes
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch._C._functorch as functorch  # no public way tells wrapped tensors
import warp as wp
from torch import Tensor

from render.compilation import BLOCK, start

start()  # wp.from_torch as a process's first Warp call fails without it

REAL = {torch.float32: wp.float32, torch.float64: wp.float64}
_ARRAY: Any = type(wp.from_torch(torch.empty(1), return_ctype=True))
_KEPT = 1024  # descriptions of arrays, of 64 bytes
_RUN = 4  # pixels, on a GPU: fewer atomic additions, and enough work items for small pictures
_WORTH_A_THREAD = 150_000  # numbers per host thread; below, starting a thread costs more than it saves


def view(tensor: Tensor, dtype: Any = None) -> Any:
    """A Warp view of a contiguous tensor's memory; gradients are the operators' business, not Warp's."""
    return wp.from_torch(_bare(_contiguous(tensor).detach()), dtype=dtype, requires_grad=False)


def argument(tensor: Tensor, dtype: Any = None, *, shape: tuple[int, ...] | None = None) -> Any:
    """The same for a kernel's argument, not for a member of a struct: made much faster.

    Args:
        tensor: Contiguous where a shape is given.
        dtype: Warp's, if its numbers belong together in vectors.
        shape: What the kernel sees, if not the tensor's shape. A view made by PyTorch takes twice as long as
            all the rest.
    """
    if functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _bare(tensor)
    key = tensor.shape if shape is None else shape, tensor.stride(), tensor.dtype, dtype
    array = _ARRAY.from_buffer_copy(_described.get(key) or _describe(key, tensor))
    array.data = tensor.data_ptr()
    array.tensor = tensor  # it lives as long
    return array


def _describe(key: tuple[Any, ...], tensor: Tensor) -> bytes:
    """What Warp passes to a kernel for an array; but for its place in memory, `key` determines it."""
    if len(_described) >= _KEPT:
        _described.clear()
    shape, *_, dtype = key
    tensor = _bare(_contiguous(tensor).view(shape))
    array: Any = wp.from_torch(tensor, dtype=dtype, requires_grad=False, return_ctype=True)
    described = bytes(array)
    _described[key] = described
    return described


def _contiguous(tensor: Tensor) -> Tensor:
    if tensor.numel() == 0:  # which may have any strides
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    return tensor


def _bare(tensor: Tensor) -> Tensor:
    """The tensor below the wrappers of `torch.func.grad` and `vjp`, which have no memory of their own."""
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            raise NotImplementedError(
                "torch.func.vmap does not reach into the kernels: give the operator a batch, [B, V, 3]"
            )
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def launch(
    kernel: Any,
    dim: tuple[int, ...],
    *,
    inputs: list[Any],
    outputs: list[Any],
    device: torch.device,
    block: int = BLOCK,
) -> None:
    """Launch on `device`, on a GPU in PyTorch's current stream and in blocks of that many threads."""
    if device.type == "cpu":
        _call(kernel, dim, [*inputs, *outputs])
        return
    stream = _stream(torch.cuda.current_stream(device))
    wp.launch(
        kernel, dim=dim, inputs=inputs, outputs=outputs, device=str(device), stream=stream, block_dim=block
    )


@dataclass(frozen=True, eq=False)
class _Recorded:
    """What Warp makes of a launch on the CPU."""

    function: Any
    bounds: Callable[[tuple[int, ...]], Any]  # of the dimensions
    arguments: Any  # type of all arguments together
    structs: list[int]  # which of them are structs
    module: Any  # held, so that the function stays loaded


def _call(kernel: Any, dim: tuple[int, ...], values: list[Any]) -> None:
    """Launch on the CPU as `wp.launch` does, but check the arguments at a kernel's first launch only.

    Each time, that takes 20 to 40 us: longer than kernels do on small pictures.
    """
    if 0 in dim:
        return
    r = _recorded.get(kernel)
    if r is None:
        r = _recorded[kernel] = _record(kernel, dim, values)
    for i in r.structs:
        values[i] = values[i].__ctype__()
    r.function(ctypes.byref(r.bounds(dim)), ctypes.byref(r.arguments(*values)))


def _record(kernel: Any, dim: tuple[int, ...], values: list[Any]) -> _Recorded:
    command = wp.launch(kernel, dim=dim, inputs=values, device="cpu", record_cmd=True)
    fields = [(f"argument_{i}", type(p)) for i, p in enumerate(command.params[1:])]
    arguments = type("Arguments", (ctypes.Structure,), {"_fields_": fields})
    bounds = functools.lru_cache(maxsize=64)(type(command.bounds))
    structs = [i for i, v in enumerate(values) if hasattr(v, "__ctype__")]
    return _Recorded(command.hooks.forward, bounds, arguments, structs, command.module_exec)


@functools.lru_cache(maxsize=64)
def _stream(stream: torch.cuda.Stream) -> Any:
    """Warp's view of a stream, kept: made anew, it costs two events, and forgets what others registered."""
    return wp.stream_from_torch(stream)


def host_threads() -> int:
    """How many host threads kernels may use: PyTorch's number, unless `pytorch_alone` has set it to one."""
    return _host_threads.get() or torch.get_num_threads()


@contextmanager
def pytorch_alone() -> Iterator[None]:
    """PyTorch's own operators on one thread while this lasts, kernels on as many as they may use.

    Many small operators in turn with kernels and pictures gain nothing from PyTorch's threads: these wait
    for each other at barriers, spinning, on the cores that the others want. And the order of their sums, so
    the last bits of results, would depend on how many there are.
    """
    threads = host_threads()
    before, token = torch.get_num_threads(), _host_threads.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _host_threads.reset(token)


def thread_count(device: torch.device, *, numbers: int) -> int:
    """How many host threads share work on that many numbers: 1 on a GPU or where the work is small."""
    if device.type == "cuda":
        return 1
    return max(1, min(host_threads(), numbers // _WORTH_A_THREAD))


def in_threads(threads: int, job: Callable[[int], None]) -> None:
    """Run job(0) here and job(1) ... job(threads - 1) beside it. Warp itself runs a CPU launch on one thread.

    Were all of them handed over, a caller that sleeps and two that wake may share one core.
    """
    if threads == 1:
        job(0)
        return
    others = [_pool(threads).submit(job, i) for i in range(1, threads)]
    try:
        job(0)
    finally:
        wait(others)  # they write to the caller's tensors
    for other in others:
        other.result()


def run_length(device: torch.device, width: int) -> int:
    """Pixels of a row that a work item adds up before it adds to what it shares with others.

    All of them on a CPU; on a GPU few, so that many share the work.
    """
    return min(_RUN, width) if device.type == "cuda" else width


def part(index: int, parts: int, count: int) -> tuple[int, int]:
    """First and past-the-last item of the `index`-th of `parts` equal shares of `count` items."""
    return count * index // parts, count * (index + 1) // parts


class Function(torch.autograd.Function):
    """PyTorch's, applied quickly: where no transform of `torch.func` runs, nothing is asked of signatures.

    Asking takes longer than a kernel does on a small picture. Arguments come in order, all of them.
    """

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """Run `forward` and remember what its backward pass needs."""
        transformed = torch._C._are_functorch_transforms_active()
        above: Any = super() if transformed else super(torch.autograd.Function, cls)
        return above.apply(*inputs)


@dataclass(frozen=True)
class Share:
    """One host thread's part of a batch of pictures: ranges of images and of their rows."""

    thread: int
    images: tuple[int, int]
    rows: tuple[int, int]

    def pixels(self, width: int, span: int) -> tuple[int, int, int]:
        """Launch dimensions for work items of `span` pixels of a row."""
        return self.images[1] - self.images[0], self.rows[1] - self.rows[0], -(-width // span)


def shares(threads: int, image_count: int, height: int, *, together: int = 1) -> list[Share]:
    """Parts of a batch that have no pixel in common, one for each host thread.

    Whole images where there are enough of them, else a band of rows of all images.

    Args:
        threads: How many parts.
        image_count: Images of the batch.
        height: Their rows.
        together: As many images, one after another, are not parted.
    """
    groups = image_count // max(1, together)
    if groups >= threads:
        ends = [part(i, threads, groups) for i in range(threads)]
        return [Share(i, (a * together, b * together), (0, height)) for i, (a, b) in enumerate(ends)]
    return [Share(i, (0, image_count), part(i, threads, height)) for i in range(threads)]


_host_threads: ContextVar[int] = ContextVar("host threads", default=0)
_described: dict[tuple[Any, ...], bytes] = {}
_recorded: dict[Any, _Recorded] = {}  # by kernel


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="unrender-warp")
