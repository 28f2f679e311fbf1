"""A world of two assets that takes no time to build: a box of known colour, and a ball of free colour."""

import math

import numpy as np

from scenes.asset import Asset, Symmetry
from scenes.world import CameraPrior, Interval, LightPrior, World


def cuboid(name, size, **options):
    """A box with split vertices and flat normals, centred at the origin."""
    corner = np.array(size, np.float32) / 2
    vertices, normals, faces = [], [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            n = np.eye(3)[axis] * side
            first = len(vertices)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                vertices.append((n + a * u + b * v) * corner)
                normals.append(n)
            quad = [(0, 1, 2), (0, 2, 3)] if side > 0 else [(0, 2, 1), (0, 3, 2)]
            faces += [(first + i, first + j, first + k) for i, j, k in quad]
    return Asset(
        name=name,
        vertices=np.array(vertices, np.float32),
        faces=np.array(faces, np.int32),
        normals=np.array(normals, np.float32),
        colours=np.full((len(vertices), 3), 0.5, np.float32),
        closed=True,
        **options,
    )


def small_world(*, width=32, height=24, placement="free"):
    """Up to 3 objects before a known camera at (0, 0, 5) that looks along -z; the light is free."""
    fixed = Interval(0.0, 0.0)
    return World(
        name="small",
        description="for tests",
        assets=(
            cuboid("box", (0.4, 0.2, 0.2)),
            cuboid("ball", (0.3, 0.3, 0.3), colour_free=True, symmetry=Symmetry(sphere=True)),
        ),
        scenery=(),
        count=(1, 3),
        placement=placement,
        position=(Interval(-1.0, 1.0), Interval(-0.5, 1.0), Interval(-1.0, 2.0)),
        yaw=Interval(-math.pi, math.pi),
        scale=Interval(0.5, 2.0),
        colour=(Interval(0.0, 1.0),) * 3,
        separate=False,
        camera=CameraPrior(
            width=width,
            height=height,
            focal=Interval(30.0, 30.0),
            aspect=1.0,
            centre=(width / 2, height / 2),
            target=(0.0, 0.0, 0.0),
            azimuth=fixed,
            elevation=fixed,
            distance=Interval(5.0, 5.0),
        ),
        light=LightPrior(
            azimuth=Interval(-1.0, 1.0),
            elevation=Interval(0.2, 1.2),
            intensity=Interval(0.3, 0.9),
            ambient=Interval(0.1, 0.5),
        ),
        background=(Interval(0.1, 0.1),) * 3,
    )
