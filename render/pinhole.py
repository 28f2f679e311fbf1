"""The camera of a picture of some size, and whether its pixels are square there."""

from dataclasses import replace

import torch

from scenes.scene import Camera

_SQUARE = 1e-3  # pixels count as square where width and height differ by a smaller share


def zoomed(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same view in pixels of a picture of `size` (H, W): its width, height, focal lengths and centre."""
    height, width = size
    zoom = camera.focal.new_tensor([width / camera.width, height / camera.height], dtype=torch.float64)
    return replace(
        camera,
        focal=(camera.focal.double() * zoom).to(camera.focal.dtype),
        centre=(camera.centre.double() * zoom).to(camera.centre.dtype),
        width=width,
        height=height,
    )


def skewed_pixels(camera: Camera) -> str | None:
    """What is wrong, in words, where the camera's pixels are not square; None where they are.

    Many renderers know one angle of view and square pixels only.
    """
    aspect = camera.focal[:, 1] / camera.focal[:, 0]
    worst = float(aspect[(aspect - 1.0).abs().argmax()]) if len(aspect) else 1.0
    if abs(worst - 1.0) < _SQUARE:
        return None
    return (
        f"in {camera.width}x{camera.height} pixels the scene's camera has pixels {worst:.3f} times as wide "
        "as high; ask for a size in the camera's proportions"
    )
