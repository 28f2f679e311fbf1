"""Write pytorch3d_soft.npz: what PyTorch3D draws and differentiates in small random scenes.

Run where PyTorch3D is installed: `python tests/data/make_pytorch3d_soft.py`. Its figures were made with
PyTorch3D 0.7.9 and PyTorch 2.13 on a CPU. `tests/test_soft.py` compares ours with them.

Vertices are ours: (x px, y px, s). PyTorch3D's screen has x to the left, y up and spans [-1, 1] along the
shorter side; its distances are squared, so its sigma is (2 sigma / shorter side)^2. Its depth is interpolated
linearly on the screen; z = far - (far - near) s makes its normalised inverse depth our s. It interpolates
colours linearly on the screen too, ours are perspective-correct: both agree where a face has one colour
("flat") or one depth ("level").
"""

from pathlib import Path

import numpy as np
import torch  # before PyTorch3D, which needs its libraries
from pytorch3d.ops import interpolate_face_attributes
from pytorch3d.renderer.blending import BlendParams, sigmoid_alpha_blend, softmax_rgb_blend
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.renderer.mesh.rasterizer import Fragments
from pytorch3d.structures import Meshes

SIGMA, GAMMA = 1.5, 0.03
NEAR, FAR = 1.0, 100.0
FACES = 5
SIZES = {"flat": (12, 16), "level": (17, 11), "square": (14, 14)}


def draw(vertices: torch.Tensor, colours: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Alpha of the silhouette shader, and colours of the softmax shader before they meet a background."""
    height, width = size
    to_screen = 2.0 / min(size)
    screen = torch.stack(
        [
            (width / 2 - vertices[:, 0]) * to_screen,
            (height / 2 - vertices[:, 1]) * to_screen,
            FAR - (FAR - NEAR) * vertices[:, 2],
        ],
        1,
    )
    faces = torch.arange(3 * FACES).view(-1, 3)
    found = rasterize_meshes(
        Meshes([screen], [faces]),
        image_size=size,
        blur_radius=100.0,  # everywhere
        faces_per_pixel=FACES,
        perspective_correct=False,
        clip_barycentric_coords=True,
        cull_backfaces=False,
    )
    fragments = Fragments(*found)
    seen = interpolate_face_attributes(fragments.pix_to_face, fragments.bary_coords, colours)
    parameters = BlendParams(sigma=(SIGMA * to_screen) ** 2, gamma=GAMMA, background_color=(0.0, 0.0, 0.0))
    alpha = sigmoid_alpha_blend(seen, fragments, parameters)[0, ..., 3]
    colour = softmax_rgb_blend(seen, fragments, parameters, znear=NEAR, zfar=FAR)[0, ..., :3]
    return alpha, colour


def main() -> None:
    """Draw the scenes and save inputs, pictures and gradients."""
    data = {"sigma": np.float32(SIGMA), "gamma": np.float32(GAMMA)}
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        g = torch.Generator().manual_seed(seed)
        vertices = torch.rand(3 * FACES, 3, generator=g) * torch.tensor([width + 4.0, height + 4.0, 0.2])
        vertices = vertices + torch.tensor([-2.0, -2.0, 0.4])
        colours = torch.rand(FACES, 3, 3, generator=g)
        if name == "level":
            vertices[:, 2] = vertices[::3, 2].repeat_interleave(3)
        else:
            colours = colours[:, :1].repeat(1, 3, 1)
        vertices.requires_grad_()
        colours.requires_grad_()
        alpha, colour = draw(vertices, colours, (height, width))
        grad_alpha = torch.randn(alpha.shape, generator=g)
        grad_colour = torch.randn(colour.shape, generator=g) * (alpha > 0.01)[..., None]
        (by_alpha,) = torch.autograd.grad(alpha, vertices, grad_alpha, retain_graph=True)
        by_colour = torch.autograd.grad(colour, (vertices, colours), grad_colour)
        arrays = {
            "vertices": vertices,
            "colours": colours,
            "alpha": alpha,
            "colour": colour,
            "grad_alpha": grad_alpha,
            "grad_colour": grad_colour,
            "grad_vertices_by_alpha": by_alpha,
            "grad_vertices_by_colour": by_colour[0],
            "grad_colours": by_colour[1],
        }
        data |= {f"{name}/{key}": value.detach().numpy() for key, value in arrays.items()}
    np.savez_compressed(Path(__file__).with_name("pytorch3d_soft.npz"), **data)


if __name__ == "__main__":
    main()
