"""The encoder: what its numbers mean, what it looks for, and what it makes of them."""

from contextlib import ExitStack

import pytest
import torch

from inverse.encoder.augment import augmented
from inverse.encoder.figures import Figures
from inverse.encoder.labels import label_loss, labels_of
from inverse.encoder.network import Encoder, encoder_size
from inverse.encoder.rays import Rays, handles
from inverse.encoder.sighting import Sightings, scene_of
from inverse.training.encoder import LabelTask, PictureTask, half
from inverse.training.pool import held_out
from scenes import Scene, World, bundled_worlds


def sampled(world: World, count: int, seed: int = 0) -> Scene:
    return world.sample(count, generator=torch.Generator().manual_seed(seed))


def told_by_truth(encoder: Encoder, scene: Scene) -> Sightings:
    """What an encoder would see in the picture of one scene if it knew everything."""
    layout, parts = encoder.layout, encoder.layout.parts
    labels = labels_of(layout, scene, torch.ones_like(scene.asset, dtype=torch.bool), encoder.size)
    cell = labels.cell
    numbers = torch.zeros(len(cell), layout.channels)
    numbers[:, parts["offset"]] = labels.place - cell - 0.5
    numbers[:, parts["depth"]] = (labels.depth / layout.typical_depth).log()[:, None]
    where = (labels.batch, labels.slot)
    if layout.upright:
        pairs = layout.yaw_pairs(scene, *where, labels.rays, labels.pixels)
        numbers[:, parts["rotation"]] = pairs.flatten(1)
    else:
        seen = layout.view_from_object(scene, *where, labels.rays, labels.pixels)
        numbers[:, parts["rotation"]] = seen[..., :2].flatten(1)
    if layout.world.scale.free:
        numbers[:, parts["scale"]] = scene.scale[where].log()[:, None]
    if layout.channels > parts["rotation"].stop + layout.world.scale.free:
        numbers[:, parts["colour"]] = scene.colour[where]
    assets = torch.nn.functional.one_hot(labels.asset, len(layout.world.assets)).float()
    whole = layout.of_scene(layout.world.pack(scene))
    return Sightings(torch.ones(len(cell)), assets, numbers, cell, whole)


@pytest.mark.parametrize("name", bundled_worlds())
def test_the_truths_numbers_give_the_true_scene(name: str) -> None:
    world = World.load(name)
    encoder = Encoder(world)
    figures = Figures()
    for seed in range(20):
        scene = sampled(world, 1, seed)
        guess = scene_of(encoder, told_by_truth(encoder, scene))
        shown = torch.zeros(scene.slots)
        shown[labels_of(encoder.layout, scene, scene.asset >= 0, encoder.size).slot] = 1
        figures.add(world, scene, shown, guess, counted=1)
        assert (guess.light.direction * scene.light.direction).sum() > 1 - 1e-5
    summary = figures.summary()
    assert summary["F1"] == 1.0
    assert summary["asset"] == 1.0
    assert max(figures.position) < 1e-4
    assert max(figures.scale) < 1e-4
    assert max(figures.rotation) < 1e-2
    if figures.colour:
        assert max(figures.colour) < 1e-4


def test_a_handle_beside_the_picture_is_told_by_the_nearest_cell() -> None:
    """A van that reaches into the picture from the left; the middle of its foot is not in it."""
    world = World.load("street")
    encoder = Encoder(world)
    scene = sampled(world, 1)
    scene.asset[0] = torch.tensor([world.index("van"), *[-1] * (scene.slots - 1)])
    scene.translation[0, 0] = torch.tensor([-4.0, 0.0, -8.0])
    labels = labels_of(encoder.layout, scene, scene.asset >= 0, encoder.size)
    assert labels.place[0, 0] < 0
    assert labels.cell[0].tolist() == [0, int(labels.place[0, 1])]
    guess = scene_of(encoder, told_by_truth(encoder, scene))
    torch.testing.assert_close(guess.translation[0, 0], scene.translation[0, 0], atol=1e-3, rtol=0)


def test_pixels_and_directions_are_each_others_inverse() -> None:
    world = World.load("tabletop")
    scene = sampled(world, 8)
    rays = Rays.of(scene.camera, (96, 160))
    points = handles(world, scene)[:, 0]
    pixels, depth = rays.pixels(points)
    back = rays.eye + depth[:, None] * rays.directions(pixels)
    torch.testing.assert_close(back, points, atol=1e-5, rtol=1e-5)


def test_a_plane_seen_steeply_outweighs_an_unsure_depth() -> None:
    world = World.load("tabletop")
    scene = sampled(world, 16)
    rays, points = Rays.of(scene.camera, (128, 128)), handles(world, scene)[:, 0]
    pixels, depth = rays.pixels(points)
    height = float(points[0, 1])
    near = rays.on_plane(pixels, depth * 1.1, height, (1e-3, 0.1))
    torch.testing.assert_close(near, points, atol=1e-4, rtol=1e-4)
    far = rays.on_plane(pixels, depth * 1.1, height, (1e3, 1e-4))
    torch.testing.assert_close(rays.pixels(far)[1], depth * 1.1, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(far[:, 1], points[:, 1], atol=1e-4, rtol=1e-4)


def test_finer_pairs_mend_what_the_coarse_one_tells_roughly() -> None:
    """A mug's yaw, 0.3 rad off in the pair of n = 1, exact in those of 2 and 4; unsure pairs do not count."""
    world = World.load("tabletop")
    layout = Encoder(world).layout
    asset = torch.full((64,), world.index("mug"))
    yaw = torch.linspace(-3.1, 3.1, 64)
    order = torch.tensor(layout.orders, dtype=torch.float32)
    rough = yaw + 0.3
    angles = torch.where(order == 1, rough[:, None], yaw[:, None]) * order
    told = torch.stack([angles.cos(), angles.sin()], -1)
    assert angle_between(layout._yaw(told, asset), yaw).max() < 1e-4
    unsure = torch.where((order > 1)[None, :, None], 0.3 * told, told)
    assert angle_between(layout._yaw(unsure, asset), rough).max() < 1e-4


def angle_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.atan2((a - b).sin(), (a - b).cos()).abs()


def test_learning_by_pictures_teaches_numbers_and_no_assets() -> None:
    world = World.load("cube")
    with PictureTask(world, "manual", engine="software") as task:
        task.network.threshold.fill_(0.0)
        held = held_out(world, 2, task.network.size, engine="software")
        task._picture_loss(held.rgb).backward()
        moved = {
            n: p.grad is not None and bool(p.grad.abs().sum() > 0) for n, p in task.network.named_parameters()
        }
    assert moved["numbers.2.weight"]
    assert moved["stride4.0.weight"]
    assert not moved["heat.weight"]


@pytest.mark.parametrize("by", ["labels", "surrogate", "manual"])
def test_a_step_and_its_figures(by: str, device: torch.device) -> None:
    """Wherever the network is, its pictures' scenes follow, and what it sees comes back."""
    world = World.load("cube")
    with ExitStack() as opened:
        task: LabelTask | PictureTask = LabelTask(world)
        if by != "labels":
            task = opened.enter_context(PictureTask(world, by, engine="software"))
            task.network.threshold.fill_(0.0)
        size = encoder_size(world)
        pictures = held_out(world, 4, size if by == "labels" else half(size), engine="software").to(device)
        task.network.to(device)
        task.loss(pictures, 1.0).backward()
        slopes = [p.grad for p in task.network.parameters() if p.grad is not None]
        assert slopes
        assert all(s.device.type == device.type and bool(s.isfinite().all()) for s in slopes)
        assert 0.0 <= task.measure(pictures)["F1"] <= 1.0


def test_rays_are_where_their_camera_is() -> None:
    camera = World.load("cube").empty().to("meta").camera
    assert Rays.of(camera, (64, 64)).focal.device.type == "meta"


def test_augmentation_keeps_the_objects_and_their_number() -> None:
    world = World.load("tabletop")
    pictures = held_out(world, 16, (64, 64), engine="software")
    torch.manual_seed(0)
    changed = augmented(pictures, share=1.0)
    assert changed.scene is pictures.scene
    assert changed.rgb.shape == pictures.rgb.shape
    assert ((changed.rgb >= 0) & (changed.rgb <= 1)).all()
    assert (changed.rgb - pictures.rgb).abs().mean((1, 2, 3)).min() > 0.01
    assert torch.equal(augmented(pictures, share=0.0).rgb, pictures.rgb)


def test_the_loss_is_least_where_the_encoder_says_the_truth() -> None:
    """A step of training on one batch makes its loss smaller; objects hardly seen are no labels."""
    world = World.load("tabletop")
    pictures = held_out(world, 8, (128, 128), engine="software")
    task = LabelTask(world)
    rate = torch.optim.Adam(task.network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = label_loss(task.network, pictures)
        rate.zero_grad()
        loss.backward()
        rate.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    seen = pictures.visible >= 1_000_000
    assert len(labels_of(task.network.layout, pictures.scene, seen, (128, 128)).asset) == 0
