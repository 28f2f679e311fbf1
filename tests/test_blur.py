"""Gaussian blur: against the exact one, its symmetry, borders, gradients, and bad input."""

import pytest
import torch
from torch.testing import assert_close

from render.blur import blurred_squared_error, gaussian_blur, gaussian_blur_reference, recursive

DIRECT, RECURSIVE = 1.3, 5.0  # [px] a width for each filter


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.3, 2.99])
def test_direct_kernel_is_the_gaussian(sigma):
    """Weights below 1e-7 are left out: nothing else differs."""
    image = noise(2, 19, 24, 3)
    assert_close(gaussian_blur(image, sigma), gaussian_blur_reference(image, sigma), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [3.0, 8.0, 30.0])
def test_recursive_filter_is_near_the_gaussian(sigma):
    """The fourth-order fit is 0.4-0.7 % off the Gaussian along one axis, so about 1 % along two."""
    impulse = torch.zeros(1, 120, 140, 1, dtype=torch.float64)
    impulse[0, 50, 70] = 1.0
    got, want = gaussian_blur(impulse, sigma), gaussian_blur_reference(impulse, sigma)
    assert (got - want).norm() < 0.012 * want.norm()
    assert (got - want).abs().max() < 0.012 * want.max()


@pytest.mark.parametrize("sigma", [DIRECT, RECURSIVE, 30.0])
def test_image_is_zero_beyond_every_border(sigma):
    """White pictures darken alike at all four borders, as the exact blur does."""
    white = torch.ones(1, 40, 30, 1, dtype=torch.float64)
    got = gaussian_blur(white, sigma)
    assert_close(got, gaussian_blur_reference(white, sigma), rtol=0, atol=0.005)
    assert_close(got, got.flip(1), rtol=0, atol=1e-6)
    assert_close(got, got.flip(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [DIRECT, RECURSIVE, 40.0])
@pytest.mark.parametrize("size", [(13, 22), (1, 9), (8, 1)])
def test_own_adjoint(sigma, size):
    """<a, G b> = <G a, b>, borders included."""
    a, b = noise(2, *size, 3), noise(2, *size, 3, seed=1)
    there, back = (a * gaussian_blur(b, sigma)).sum(), (gaussian_blur(a, sigma) * b).sum()
    assert abs(there - back) < 1e-9 * a.norm() * b.norm()


@pytest.mark.parametrize("sigma", [DIRECT, RECURSIVE])
def test_gradient_is_the_same_blur(sigma):
    image = noise(1, 6, 7, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, sigma), (image,))
    assert torch.autograd.gradgradcheck(lambda x: gaussian_blur(x, sigma).square(), (image,))


def test_zero_width_changes_nothing():
    image = noise(1, 5, 4, 3)
    assert_close(gaussian_blur(image, 0.0), image, rtol=0, atol=0)


@pytest.mark.parametrize("sigma", [DIRECT, RECURSIVE, 60.0])
def test_float32_close_to_float64(sigma):
    """A recursion over four lags cancels: in float32 its error would be 1e-2 at 40 px."""
    image = noise(1, 70, 50, 3)
    got = gaussian_blur(image.float(), sigma).double()
    assert (got - gaussian_blur(image, sigma)).norm() < 1e-6 * image.norm()


@pytest.mark.parametrize("sigma", [3.0, 40.0])
@pytest.mark.parametrize("size", [(37, 21), (1, 16), (16, 1), (5, 48)])
def test_lines_read_ahead_as_on_a_gpu(size, sigma):
    """The filter is the same, whether the pixels of a line are read one by one or several at once."""
    image = noise(2, *size, 3)
    got, want = recursive.filtered_on_gpu(image, sigma), recursive.filtered_on_cpu(image, sigma)
    assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("size", [(16, 21), (8, 3), (4, 1), (48, 50), (6, 9)])
def test_rows_are_filtered_alike_transposed_or_not(size, channels):
    """A CPU transposes 16, 8 or 4 rows of few channels; the rows read ahead are not transposed."""
    image, less = noise(2, *size, channels), noise(1, *size, channels, seed=1)
    want = recursive.filtered_on_gpu(image - less, RECURSIVE)
    assert_close(recursive.filtered_on_cpu(image, RECURSIVE, less=less), want, rtol=0, atol=1e-12)
    want = recursive.filtered_on_gpu(image, RECURSIVE)
    assert_close(recursive.filtered_on_cpu(image, RECURSIVE), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [DIRECT, RECURSIVE])
def test_threads_and_layout_change_no_bit(sigma):
    image = noise(7, 160, 150, 3, dtype=torch.float32)
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gaussian_blur(image, sigma)
        torch.set_num_threads(3)
        three = gaussian_blur(image.transpose(1, 2).contiguous().transpose(1, 2), sigma)
    finally:
        torch.set_num_threads(count)
    assert torch.equal(one, three)


@pytest.mark.parametrize("sigma", [0.0, DIRECT, RECURSIVE])
def test_squared_error_is_that_of_two_blurred_pictures(sigma):
    """<d, G_(s sqrt 2) d> is |G_s d|^2 on a wide margin; the recursive filters compose to 1 %."""
    image, target = noise(2, 40, 50, 3), noise(2, 40, 50, 3, seed=1)
    got = blurred_squared_error(image, target, sigma)
    wide = torch.nn.functional.pad(image - target, (0, 0, 30, 30, 30, 30))
    want = gaussian_blur_reference(wide, sigma).square().sum((1, 2, 3)) / (40 * 50 * 3)
    assert_close(got, want, rtol=0.02, atol=0)


def test_threads_change_no_bit_of_the_squared_error():
    image = noise(7, 160, 150, 3, dtype=torch.float32)
    target = noise(1, 160, 150, 3, seed=1, dtype=torch.float32)
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = blurred_squared_error(image, target, RECURSIVE)
        torch.set_num_threads(3)
        three = blurred_squared_error(image.transpose(1, 2).contiguous().transpose(1, 2), target, RECURSIVE)
    finally:
        torch.set_num_threads(count)
    assert torch.equal(one, three)


@pytest.mark.parametrize("sigma", [0.0, DIRECT, RECURSIVE])
def test_squared_error_gradient(sigma):
    image, target = noise(2, 6, 5, 2).requires_grad_(), noise(1, 6, 5, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: blurred_squared_error(a, b, sigma), (image, target))


@pytest.mark.parametrize("sigma", [0.0, DIRECT, RECURSIVE])
def test_squared_error_goes_back_more_than_once(sigma):
    """The last pass scales in place what the passes before have to leave as it was."""
    image, target = noise(2, 6, 5, 2).requires_grad_(), noise(2, 6, 5, 2, seed=1).requires_grad_()
    error = blurred_squared_error(image, target, sigma)
    weight = torch.tensor([0.3, 2.0], dtype=torch.float64)
    first, again, last = (
        torch.autograd.grad(error, (image, target), weight, retain_graph=k) for k in (1, 1, 0)
    )
    for a, b, c in zip(first, again, last, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert torch.equal(image.detach(), noise(2, 6, 5, 2))


def test_empty_batch():
    assert gaussian_blur(torch.zeros(0, 4, 5, 3), RECURSIVE).shape == (0, 4, 5, 3)
    assert blurred_squared_error(torch.zeros(0, 4, 5, 3), torch.zeros(1, 4, 5, 3), RECURSIVE).shape == (0,)


@pytest.mark.parametrize(
    ("image", "sigma", "message"),
    [
        (torch.zeros(4, 4, 3), 1.0, r"image must have shape \[B, H, W, C\], got \[4, 4, 3\]"),
        (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), 1.0, "float32 or float64, got torch.uint8"),
        (torch.zeros(1, 4, 4, 3), -1.0, "at least 0, got -1.0"),
        (torch.zeros(1, 4, 4, 3), float("nan"), "finite number of pixels"),
    ],
)
def test_rejects(image, sigma, message):
    with pytest.raises(ValueError, match=message):
        gaussian_blur(image, sigma)


def test_squared_error_rejects():
    image = torch.zeros(2, 4, 4, 3)
    with pytest.raises(ValueError, match="target must have image's shape"):
        blurred_squared_error(image, torch.zeros(3, 4, 4, 3), 1.0)
    with pytest.raises(ValueError, match="must be equal"):
        blurred_squared_error(image, image.double(), 1.0)
    with pytest.raises(ValueError, match="target is on meta, image on cpu"):
        blurred_squared_error(image, image.to("meta"), 4.0)
