"""What is drawn into: layered targets, one layer per scene, and the pictures made of them."""

from typing import TYPE_CHECKING

import torch

from render.opengl.context import DepthArrays

if TYPE_CHECKING:
    import moderngl


class ShadowTarget:
    """Shadow maps of several scenes, one per layer."""

    def __init__(self, context: "moderngl.Context", arrays: DepthArrays, size: int, layers: int) -> None:
        self.depth = arrays.texture((size, size, layers))
        placeholder = context.texture_array((size, size, layers), 1, dtype="f1")
        self.framebuffer = arrays.framebuffer(placeholder, self.depth, only_depth=True)


class PictureTarget:
    """Supersampled colours, ids and depths of several scenes, and their pictures one under another."""

    def __init__(
        self,
        context: "moderngl.Context",
        arrays: DepthArrays,
        size: tuple[int, int],
        samples: int,
        layers: int,
    ) -> None:
        height, width = size
        fine = (width * samples, height * samples, layers)
        self.colours = context.texture_array(fine, 4, dtype="f4")
        # moderngl does not know of attached depths: without a reference they would be freed.
        self._depths = arrays.texture(fine), arrays.texture((width, height, layers))
        self.shaded = arrays.framebuffer(self.colours, self._depths[0])
        self.seen = context.texture_array((width, height, layers), 2, dtype="f4")
        self.identified = arrays.framebuffer(self.seen, self._depths[1])
        self._picture = context.texture((width, height * layers), 4, dtype="f4")
        self._instance = context.texture((width, height * layers), 1, dtype="i4")
        self.pictures = context.framebuffer(color_attachments=[self._picture, self._instance])
        # Memory that was written before: pages of fresh memory cost as much as what is written there.
        self._read = (
            torch.empty(layers, height, width, 4),
            torch.empty(layers, height, width, dtype=torch.int32),
        )
        self.size, self.layers = size, layers

    def read(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours and depth, float32 [count, H, W, 4], and ids, int32 [count, H, W], of the first layers.

        Both are views of memory that the next call writes over.
        """
        height, width = self.size
        picture, instance = (memory[:count] for memory in self._read)
        used = 0, 0, width, height * count
        self.pictures.read_into(picture.numpy().reshape(-1), used, components=4, dtype="f4")
        self.pictures.read_into(instance.numpy().reshape(-1), used, components=1, attachment=1, dtype="i4")
        return picture, instance
