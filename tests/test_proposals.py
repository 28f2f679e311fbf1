"""Proposals: what is proposed keeps clear of what is there."""

from dataclasses import replace

import pytest
import torch

from inverse.candidates import candidates_of, clear
from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.proposals import Proposals
from inverse.sketch import Sketcher
from render.software import SoftwareEngine
from scenes import World


def test_nothing_is_proposed_in_what_is_there(
    table: World, table_engine: SoftwareEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mug taken for a bowl is wrong all over: a mug in the bowl would put it right, and is not proposed."""
    truth = table.sample(generator=torch.Generator().manual_seed(3)).without(1)
    asset, tint = torch.tensor([[0, -1]]), torch.full_like(truth.colour, 0.5)
    truth = replace(truth, asset=asset, colour=tint)
    judge = Judge(table_engine, table, Evidence(table_engine.render(truth).rgb[0]))
    taken = judge.fit(replace(truth, asset=torch.tensor([[1, -1]])))
    together, apart = (Proposals(judge, Sketcher(table)) for _ in range(2))
    together.world = replace(table, separate=False)
    mixed, tidy = (p.propose(taken, wrong=taken.cost)[0] for p in (together, apart))
    assert clear(table, taken.scene, tidy).all()
    assert not clear(table, taken.scene, mixed).all()
    monkeypatch.setattr("inverse.candidates._CLEAR", 10.0)  # wherever they end they are too close
    assert len(together.refined(taken, mixed, 1)[0]) == 1
    assert len(apart.refined(taken, mixed, 1)[0]) == 0


def test_clear_of_objects(table: World) -> None:
    """Half the sum of two radii apart; empty slots are in nobody's way, nor is any where all may touch."""
    scene = table.sample(generator=torch.Generator().manual_seed(3)).without(1)
    far = scene.translation[0, 0] + torch.tensor([1.0, 0.0, 0.0])
    moved = replace(scene, translation=torch.stack([scene.translation[0, 0], far])[None])
    same, beside = (candidates_of(moved, [slot]) for slot in (0, 1))
    beside = replace(beside, asset=same.asset)
    assert not clear(table, scene, same).any()
    assert clear(table, scene, beside).all()
    assert clear(table, scene.without(0), same).all()
    assert clear(replace(table, separate=False), scene, same).all()
