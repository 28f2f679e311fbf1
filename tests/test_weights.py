"""Weights belong to a world, and say so."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scenes import Interval, World
from scenes.signature import differences, signature
from scenes.weights import WeightsError, load_weights, save_weights

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(0.3)}


def test_weights_come_back_with_their_facts(tmp_path: Path) -> None:
    world = World.load("tabletop")
    save_weights(tmp_path / "encoder.safetensors", TENSORS, world, {"seed": 3, "figures": {"F1": 0.9}})
    tensors, facts = load_weights(tmp_path / "encoder.safetensors", World.load("tabletop"))
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[n], t) for n, t in TENSORS.items())
    assert facts == {"seed": 3, "figures": {"F1": 0.9}}
    assert [f.name for f in tmp_path.iterdir()] == ["encoder.safetensors"]


def test_weights_that_cannot_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    world, folder = World.load("cube"), tmp_path / "encoder.safetensors"
    with pytest.raises(WeightsError, match=r"cannot write .*missing/encoder\.safetensors: No such file"):
        save_weights(tmp_path / "missing" / "encoder.safetensors", TENSORS, world, {})
    folder.mkdir()
    with pytest.raises(WeightsError, match=r"cannot write .*encoder\.safetensors: Is a directory"):
        save_weights(folder, TENSORS, world, {})
    assert list(tmp_path.iterdir()) == [folder]


def test_weights_of_another_world_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    world = World.load("tabletop")
    save_weights(path, TENSORS, world, {})
    nearer = replace(world, camera=replace(world.camera, distance=Interval(1.5, 2.0)))
    with pytest.raises(WeightsError, match=re.escape("camera.distance is 1.5 to 2, was 1.766")):
        load_weights(path, nearer)
    with pytest.raises(WeightsError, match=r"asset mug is missing; .*unrender train encoder"):
        load_weights(path, replace(world, assets=world.assets[1:]))


def test_a_world_may_change_its_name_but_not_its_assets() -> None:
    world = World.load("tabletop")
    trained = signature(world)
    assert differences(replace(world, name="desk", description="Another name."), trained) == []
    swapped = (world.assets[1], world.assets[0], *world.assets[2:])
    assert differences(replace(world, assets=swapped), trained) == ["the assets stand in another order"]
    first = world.assets[0]
    wider = replace(first, vertices=first.vertices * 1.05)
    assert differences(replace(world, assets=(wider, *world.assets[1:])), trained) == [
        f"asset {first.name} has another mesh, colour or texture"
    ]
    last_bits = replace(first, vertices=first.vertices * (1 + 1e-6))
    assert differences(replace(world, assets=(last_bits, *world.assets[1:])), trained) == []


def test_other_files_are_no_weights(tmp_path: Path) -> None:
    world = World.load("cube")
    with pytest.raises(WeightsError, match="there are no such weights"):
        load_weights(tmp_path / "none.safetensors", world)
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(WeightsError, match="is no file of weights"):
        load_weights(tmp_path / "text.safetensors", world)
    save_file(TENSORS, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no file of weights of Unrender's"):
        load_weights(tmp_path / "other.safetensors", world)
