"""Other projects' rasterizers with gradients, for `operators.py`: one step each, forward and backward.

Each adapter takes a `Ball` and returns a function that runs a step, or None where the package is not
installed: `pip install deodr`; PyTorch3D from source.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from steps import DISTANCE, Ball


def deodr(scene: Ball) -> Callable[[], Any] | None:
    """DEODR's step: render, squared error, gradients of vertices and colours; pictures one after another."""
    if importlib.util.find_spec("deodr") is None:
        return None
    from deodr import ColoredTriMesh
    from deodr.differentiable_renderer import PerspectiveCamera, Scene3D

    points = scene.points.numpy().astype(np.float64)
    mesh = ColoredTriMesh(scene.triangles.faces.numpy().astype(np.uint32), vertices=points, nb_colors=3)
    mesh.set_vertices_colors(scene.colours.numpy().astype(np.float64))
    world = Scene3D(sigma=1.0)
    world.set_mesh(mesh)
    world.set_light(light_directional=None, light_ambient=1.0)
    world.set_background_color(np.zeros(3))
    eye, axes = np.array([0.0, 0.0, DISTANCE]), np.diag([1.0, -1.0, -1.0])
    fov_degrees = 2.0 * np.degrees(np.arctan(scene.pixels / 2 / scene.focal))
    camera = PerspectiveCamera(scene.pixels, scene.pixels, fov_degrees, eye, axes)
    target = scene.target[0].numpy().astype(np.float64)
    started = []

    def step() -> None:
        for _ in range(scene.batch):
            if started:
                world.clear_gradients()
            started.append(True)
            world.render_backward(2.0 * (world.render(camera) - target))

    return step


def pytorch3d(scene: Ball, *, sigma: float, gamma: float, faces_per_pixel: int) -> Callable[[], Any] | None:
    """PyTorch3D's step on its CPU path: rasterize, interpolate, softmax blending, squared error, gradients.

    Args:
        scene: What is drawn.
        sigma: Softness [px], as our operator counts it.
        gamma: Softness in depth, as it counts it, of depths that it takes between 1 and 10.
        faces_per_pixel: How many faces it keeps.
    """
    if importlib.util.find_spec("pytorch3d") is None:
        return None
    from pytorch3d.ops import interpolate_face_attributes
    from pytorch3d.renderer.blending import BlendParams, softmax_rgb_blend
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    width = (2.0 * sigma / scene.pixels) ** 2  # its sigma is a squared distance, the picture spans [-1, 1]
    blend = BlendParams(sigma=width, gamma=gamma, background_color=(0.0, 0.0, 0.0))
    corner = scene.triangles.faces.long()
    flip = torch.tensor([-2.0 / scene.pixels, -2.0 / scene.pixels])  # x left, y up

    def step() -> None:
        leaf = scene.vertices.expand(scene.batch, -1, -1).clone().requires_grad_()
        colours = scene.colours.clone().requires_grad_()
        placed = torch.cat([leaf[..., :2] * flip + 1.0, 1.0 / leaf[..., 2:]], -1)
        meshes = Meshes(list(placed), [corner] * len(placed))
        face, depth, weights, distance = rasterize_meshes(
            meshes,
            image_size=scene.pixels,
            blur_radius=float(np.log(1.0 / 1e-4 - 1.0) * width),
            faces_per_pixel=faces_per_pixel,
            perspective_correct=True,
            clip_barycentric_coords=True,
            cull_backfaces=True,
        )
        attributes = colours[corner].repeat(len(placed), 1, 1)
        seen = interpolate_face_attributes(face, weights, attributes)
        fragments = type("Fragments", (), {})()
        fragments.pix_to_face, fragments.zbuf, fragments.dists = face, depth, distance
        image = softmax_rgb_blend(seen, fragments, blend, znear=1.0, zfar=10.0)
        (image[..., :3] - scene.target).square().sum().backward()

    return step
