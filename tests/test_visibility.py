"""Visible fractions against occlusions known by construction."""

from dataclasses import replace

import pytest
import torch
from small_world import small_world

from inverse.visibility import visible_fractions
from render.engine import Frame, open_engine


@pytest.fixture(scope="module")
def engine():
    with open_engine("software", small_world(), size=(96, 128)) as engine:
        yield engine


def test_hidden_outside_and_empty(engine):
    """A box seen whole, one that the picture's border halves, one wholly behind another; an empty slot."""
    scene = replace(small_world().empty(2), asset=torch.tensor([[0, 0, -1], [0, 0, -1]]))
    # The eye is at z = 5; focal length 30 for a width of 32 pixels shows 16 / 30 of the depth to each side.
    scene.translation[0, 0] = torch.tensor([0.0, 0.0, 2.2])
    scene.translation[0, 1] = torch.tensor(
        [-2.7 * 16 / 30, 0.0, 2.2]
    )  # halved, as seen of its front face, 2.7 m away
    scene.translation[1, 0] = torch.tensor([0.0, 0.0, 3.0])
    scene.translation[1, 1] = torch.tensor([0.0, 0.0, 1.0])
    fractions = visible_fractions(engine, scene, size=(96, 128))
    assert fractions[0, 0] == 1.0
    assert fractions[0, 1] == pytest.approx(0.5, abs=0.06)
    assert fractions[1].tolist()[:2] == [1.0, 0.0]
    assert fractions[:, 2].isnan().all()


def test_engine_without_ids():
    class Blind:
        def render(self, scene, *, size):
            return Frame(torch.zeros(1, *size, 3))

    assert visible_fractions(Blind(), small_world().empty(), size=(24, 32)) is None
