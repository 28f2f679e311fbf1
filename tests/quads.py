"""Scenes known by hand: squares before a camera at the origin; and sampled ones to draw many of."""

from dataclasses import replace

import numpy as np
import torch

from scenes import Asset, Camera, CameraPrior, Interval, Light, LightPrior, Scene, World


def quad(name="quad", half=0.5, colour=(0.2, 0.5, 0.8), **settings):
    """A square in the plane z = 0 that faces +z; its texture stands upright."""
    x = half * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    return Asset(
        name=name,
        vertices=x,
        faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        normals=np.tile(np.float32([0, 0, 1]), (4, 1)),
        colours=np.tile(np.float32(colour), (4, 1)),
        uv=np.float32([[0, 1], [1, 1], [1, 0], [0, 0]]),
        **settings,
    )


def world_of(*assets, scenery=()):
    known = Interval(0.0, 0.0)
    return World(
        name="test",
        description="",
        assets=assets,
        scenery=scenery,
        count=(0, 1),
        placement="free",
        position=(known,) * 3,
        yaw=known,
        scale=Interval(1.0, 1.0),
        colour=(known,) * 3,
        separate=False,
        camera=CameraPrior(16, 16, Interval(8, 8), 1.0, (8, 8), (0, 0, 0), known, known, known),
        light=LightPrior(known, known, known, known),
        background=(known,) * 3,
    )


def scene_of(
    assets=(0,), at=((0, 0, -1),), size=(16, 16), focal=(8, 8), centre=(8, 8), light=(0, 0, 1), **change
):
    """One scene of unturned objects, camera at the origin."""
    slots = len(assets)
    scene = Scene(
        asset=torch.tensor([assets]),
        rotation=torch.tensor([0.0, 0, 0, 1]).repeat(1, slots, 1),
        translation=torch.tensor([at], dtype=torch.float32).reshape(1, slots, 3),
        scale=torch.ones(1, slots),
        colour=torch.ones(1, slots, 3),
        camera=Camera(
            rotation=torch.tensor([[0.0, 0, 0, 1]]),
            translation=torch.zeros(1, 3),
            focal=torch.tensor([focal], dtype=torch.float32),
            centre=torch.tensor([centre], dtype=torch.float32),
            width=size[1],
            height=size[0],
        ),
        light=Light(
            direction=torch.nn.functional.normalize(torch.tensor([light], dtype=torch.float32)),
            intensity=torch.tensor([0.6]),
            ambient=torch.tensor([0.3]),
        ),
        background=torch.tensor([[0.1, 0.2, 0.3]]),
    )
    return replace(scene, **change)


def tabletop(batch):
    world = World.load("tabletop")
    return world, world.sample(batch, generator=torch.Generator().manual_seed(3))
