"""Costs of pixels by hand, pictures resized, the noise floor against noise that was drawn, PSNR."""

import pytest
import torch
from torch.testing import assert_close

from inverse.losses import TAU, Evidence, covered, noise_floor, psnr, resize


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def evidence(height=4, width=6, **options):
    return Evidence(torch.full((height, width, 3), 0.5), **options)


def test_cost_counts_wrong_pixels():
    """0 where nothing differs, a half at a distance of tau, nearly 1 far away; pixel by pixel."""
    image = torch.full((2, 4, 6, 3), 0.5)
    image[0, 1, 2] += torch.tensor([0.6, 0.0, 0.8]) * TAU
    image[1, 3, 5] = 20.0
    cost = evidence().cost(image)
    assert_close(cost[0, 1, 2], torch.tensor(0.5))
    assert cost[1, 3, 5] > 0.99
    cost[0, 1, 2] = cost[1, 3, 5] = 0.0
    assert_close(cost, torch.zeros(2, 4, 6))


def test_cost_of_a_mask():
    mask = torch.zeros(4, 6)
    mask[0] = 1.0
    seen = torch.zeros(1, 4, 6)
    seen[0, :, 0] = 1.0
    image = torch.full((1, 4, 6, 3), 0.5)
    with_mask = evidence(mask=mask, mask_weight=0.3)
    want = torch.zeros(1, 4, 6)
    want[0, 1:, 0] = want[0, 0, 1:] = 0.3
    assert_close(with_mask.cost(image, seen), want)
    assert_close(with_mask.cost(image), torch.zeros(1, 4, 6))
    assert_close(evidence().cost(image, seen), torch.zeros(1, 4, 6))


def test_evidence_resized():
    """Colours and mask are averaged over blocks; nothing else changes."""
    image, mask = noise(4, 6, 3), torch.zeros(4, 6)
    mask[0, 0] = 1.0
    full = Evidence(image, mask, mask_weight=0.7, tau=0.2)
    small = full.resized((2, 3))
    assert small.size == (2, 3)
    assert_close(small.image[1, 2], image[2:, 4:].mean((0, 1)))
    assert_close(small.mask, torch.tensor([[0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert (small.mask_weight, small.tau) == (0.7, 0.2)
    assert full.resized((4, 6)) is full


@pytest.mark.parametrize("size", [(3, 4), (9, 13), (2, 3)])
def test_resize_keeps_ramps(size):
    """A ramp stays the ramp at the new pixels' centres, away from the border, in both directions."""
    y, x = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(12) + 0.5, indexing="ij")
    got = resize(torch.stack([x / 12, y / 8], -1)[None], size)[0]
    rows, columns = (torch.arange(n) + 0.5 for n in size)
    inside = (slice(1, -1), slice(1, -1)) if min(size) > 2 else (slice(None), slice(None))
    assert_close(got[..., 0][inside], (columns / size[1]).expand(size)[inside], rtol=0, atol=0.01)
    assert_close(got[..., 1][inside], (rows / size[0])[:, None].expand(size)[inside], rtol=0, atol=0.01)


@pytest.mark.parametrize("sigma", [0.003, 0.03, 0.08])
def test_noise_floor(sigma):
    """The mean cost of pixels with nothing wrong but noise; 10000 pixels tell it to 2 %."""
    difference = sigma * noise(100, 100, 3)
    want = Evidence(torch.zeros(100, 100, 3)).cost(difference[None]).mean()
    assert noise_floor(difference) == pytest.approx(float(want), rel=0.04)


def test_noise_floor_is_robust():
    """A fifth of the picture is wrong: the median of the rest still tells the noise, to about a half."""
    difference = 0.03 * noise(100, 100, 3)
    clean = noise_floor(difference)
    difference[:20] = 0.5
    assert clean < noise_floor(difference) < 1.6 * clean


def test_a_wrong_picture_is_no_noise():
    """A difference of 0.5 all over would be explained by noise of a quarter; most of it is told as wrong."""
    difference = torch.full((20, 20, 3), 0.5)
    cost = Evidence(torch.zeros(20, 20, 3)).cost(difference[None]).mean()
    assert noise_floor(difference) < 0.7 * float(cost)


def test_noise_floor_without_noise():
    assert noise_floor(torch.zeros(5, 5, 3)) == 0.0


def test_psnr():
    image = torch.zeros(3, 4, 3)
    assert psnr(image, image + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(image, image) == pytest.approx(100.0)


def test_covered_means_slots_only():
    """Neither the background (-1) nor scenery (from the number of slots on) is an object."""
    ids = torch.tensor([[-1, 0, 1, 2, 3]])
    assert covered(ids, 2).tolist() == [[False, True, True, False, False]]
