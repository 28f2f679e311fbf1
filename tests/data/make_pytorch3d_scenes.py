"""Write pytorch3d_scenes.npz: what PyTorch3D draws and differentiates of a few scenes, through our adapter.

Run where PyTorch3D is installed: `PYTHONPATH=.:tests python tests/data/make_pytorch3d_scenes.py`. Its figures
were made with PyTorch3D 0.7.9 and PyTorch 2.13 on a CPU. `tests/test_autodiff.py` compares ours with them.

Each scene is saved whole, with sigma, gamma, a random cotangent of its picture, the picture, and the gradient
of every tensor of the scene. Make them again when a bundled asset, the lit colours or the adapter change.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch  # before PyTorch3D, which needs its libraries
from scene_tensors import gradients, tensors, with_tensors

from render import differentiable, open_engine
from scenes import Scene, World
from scenes.scene import stack


def cube() -> tuple[Scene, float, float]:
    """One cube."""
    return World.load("cube").sample(generator=torch.Generator().manual_seed(3)), 1.0, 0.02


def occluding() -> tuple[Scene, float, float]:
    """A tinted block behind a glossy, textured can on a textured table; and the block alone."""
    world = World.load("tabletop")
    scene = world.sample(generator=torch.Generator().manual_seed(0))
    asset = torch.full_like(scene.asset, -1)
    asset[0, :2] = torch.tensor([world.index("can"), world.index("block")])
    translation = scene.translation.clone()
    to_eye = torch.nn.functional.normalize(scene.camera.translation[0, [0, 2]], dim=0)
    translation[0, :2] = 0.0
    translation[0, 0, [0, 2]] = 0.05 * to_eye
    translation[0, 1, [0, 2]] = -0.05 * to_eye + 0.03 * to_eye.flip(0) * torch.tensor([1.0, -1.0])
    colour = scene.colour.clone()
    colour[0, :2] = torch.tensor([[1.0, 0.9, 0.8], [0.8, 0.3, 0.2]])
    scene = replace(scene, asset=asset, translation=translation, colour=colour)
    scene = with_tensors(scene, {"camera/translation": 0.6 * scene.camera.translation})
    return stack([scene, scene.without(0)]), 0.8, 0.02


def near() -> tuple[Scene, float, float]:
    """The same from so near that the table reaches behind the eye, softer."""
    scene = occluding()[0][0]
    return with_tensors(scene, {"camera/translation": 0.6 * scene.camera.translation}), 1.5, 0.1


SCENES = {
    "cube": (cube, "cube", (32, 32)),
    "occluding": (occluding, "tabletop", (32, 40)),
    "near": (near, "tabletop", (32, 24)),
}


def main() -> None:
    """Draw the scenes and save inputs, pictures and gradients."""
    data: dict[str, np.ndarray] = {}
    for seed, (name, (make, world, size)) in enumerate(SCENES.items()):
        scene, sigma, gamma = make()
        cotangent = torch.randn(len(scene), *size, 3, generator=torch.Generator().manual_seed(seed))
        with open_engine("software", World.load(world), size=size) as engine:
            module = differentiable(engine, "autodiff", renderer="pytorch3d", sigma=sigma, gamma=gamma)
            image, found = gradients(module, scene, cotangent)
        arrays = {"asset": scene.asset, "image": image, "cotangent": cotangent} | tensors(scene)
        arrays |= {"softness": torch.tensor([sigma, gamma], dtype=torch.float64)}
        arrays |= {f"grad/{key}": gradient for key, gradient in found.items()}
        data |= {f"{name}/{key}": value.numpy() for key, value in arrays.items()}
    np.savez_compressed(Path(__file__).with_name("pytorch3d_scenes.npz"), **data)


if __name__ == "__main__":
    main()
