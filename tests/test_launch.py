"""Launches on the CPU: arguments of every kind, later calls as the first, nothing kept."""

import gc
import weakref

import pytest
import torch
import warp as wp

from render import launch as launching
from render.launch import argument, host_threads, launch, pytorch_alone, thread_count, view

CPU = torch.device("cpu")


@wp.struct
class Line:
    """What a struct may hold."""

    points: wp.array[wp.float32]
    slope: wp.float32


@wp.kernel(module="unique", enable_backward=False)
def combine(
    x: wp.array2d[wp.float32],
    line: Line,
    shift: wp.vec4,
    weight: wp.float32,
    count: wp.int32,
    negative: wp.bool,
    y: wp.array2d[wp.float32],
):
    i, j = wp.tid()
    value = x[i, j] * weight + line.points[j] * line.slope + shift[i] + float(count)
    y[i, j] = wp.where(negative, -value, value)


def _combined(rows: int, columns: int, *, negative: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What the kernel finds, and what it should."""
    x, points = torch.rand(rows, columns), torch.rand(columns)
    line = Line()
    line.points, line.slope = view(points), 3.0
    shift = torch.arange(4.0)
    y = torch.full_like(x, torch.nan)
    inputs = [argument(x), line, wp.vec4(*shift.tolist()), 0.5, 7, negative]
    launch(combine, (rows, columns), inputs=inputs, outputs=[argument(y)], device=CPU)
    value = x * 0.5 + points * 3.0 + shift[:rows, None] + 7.0
    return y, -value if negative else value


def test_arguments_of_every_kind_in_first_and_later_launches():
    for rows, columns, negative in ((2, 3, False), (4, 5, True), (1, 1, False), (2, 3, True)):
        found, expected = _combined(rows, columns, negative=negative)
        torch.testing.assert_close(found, expected)


def test_first_launches_without_work_do_nothing(monkeypatch):
    monkeypatch.setattr(launching, "_recorded", {})
    found, _ = _combined(0, 3, negative=False)
    assert found.shape == (0, 3)


def test_arguments_hold_their_tensor_and_first_launches_do_not(monkeypatch):
    monkeypatch.setattr(launching, "_recorded", {})
    x = torch.rand(2, 3)
    alive = weakref.ref(x)
    held = argument(x)
    del x
    assert alive() is not None
    y = torch.empty(2, 3)
    line = Line()
    line.points, line.slope = view(torch.rand(3)), 3.0
    inputs = [held, line, wp.vec4(), 0.5, 7, False]
    launch(combine, (2, 3), inputs=inputs, outputs=[argument(y)], device=CPU)
    del held, inputs
    gc.collect()
    assert alive() is None


def test_strides_and_types_make_arguments_of_their_own():
    wide = torch.arange(12.0).view(2, 6)
    narrow, columns = wide[:, :3], wide[:, ::2]  # of one shape
    for x in (narrow, columns, narrow.double()):
        a = argument(x)
        assert a.data == x.data_ptr()
        assert list(a.strides[:2]) == [s * x.element_size() for s in x.stride()]
    with pytest.raises(RuntimeError, match="inner shape"):
        argument(wide, wp.vec3)


def test_a_shape_in_place_of_a_view():
    x = torch.arange(12.0).view(1, 4, 3)
    for dtype, shape in ((None, (1, 12)), (wp.vec3, (2, 2, 3))):
        a, b = argument(x, dtype, shape=shape), argument(x.view(shape), dtype)
        assert (a.data, a.ndim, list(a.shape), list(a.strides)) == (
            b.data,
            b.ndim,
            list(b.shape),
            list(b.strides),
        )
    assert list(argument(x).shape)[:3] == [1, 4, 3]
    assert list(argument(torch.empty(0, 4, 3), shape=(0, 12)).shape)[:2] == [0, 12]
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        argument(x.mT, shape=(12,))


def test_descriptions_of_arrays_do_not_pile_up():
    for n in range(2 * launching._KEPT):
        argument(torch.empty(n))
    assert len(launching._described) <= launching._KEPT


def test_pytorch_alone_leaves_kernels_their_threads():
    """Within itself, too, and afterwards all is as before, come what may."""

    def stopped():
        with pytorch_alone():
            with pytorch_alone():
                assert (torch.get_num_threads(), host_threads()) == (1, 3)
            assert (torch.get_num_threads(), thread_count(CPU, numbers=10**9)) == (1, 3)
            raise KeyError

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyError):
            stopped()
        assert (torch.get_num_threads(), host_threads()) == (3, 3)
    finally:
        torch.set_num_threads(threads)
