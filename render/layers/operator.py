"""Autograd operators of the blurred layers: argument checks, launches, nothing else."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.attributes import Attributes, PerCorner, Texture, background_rows, carried
from render.blur import gaussian_blur
from render.checks import check_positive
from render.compilation import load_unique
from render.edge import edge_gradient
from render.interpolate import interpolate
from render.launch import REAL, Function, Share, in_threads, launch, shares, thread_count, view
from render.layers.kernels import kernels
from render.raster import rasterize
from render.triangles import Triangles, packed

_LEAST_GAMMA = 1e-6  # [1/m] below, float32 tells no two depths apart anyway
_NEAREST, _FARTHEST = 1e9, 1e-9  # [1/m] beyond, derivatives of the depth overflow float32


def soft_layers(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: "Int[Tensor, 'face 3'] | Triangles",
    attributes: Attributes,
    *,
    image_size: tuple[int, int],
    sigma: float = 2.0,
    gamma: float = 0.05,
    background: Float[Tensor, "*batch channel"] | None = None,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Draw each object alone, blur it, and compose all softly in depth: hidden objects feel gradients too.

    Each object of a picture, `Triangles.instance`, is a layer: drawn hard, without the others, as colour
    times coverage, coverage, and inverse depth times coverage; blurred with a Gaussian of `sigma`; composed
    by `soft_over`. The picture is soft in the plane and in depth, and is the hard one as `sigma` and `gamma`
    go to 0. Gradients reach all vertices: their x and y by the edge operator on each layer's own pixels,
    their inverse depth by that and by the layers' order.

    Users will get wrong: the blur needs `image_size` in the same pixels as `vertices`, and a target must be
    blurred by the same `sigma` to be compared. Beyond the border all is empty, so objects that reach over
    it fade within `sigma` of it; to avoid that, draw a picture 3 `sigma` wider and crop it.

    Not supported: parts of one object that hide one another are hidden hard, and what they hide feels
    nothing; textures; shading that changes while a surface turns. Three and more objects at one place
    within `gamma` of each other give weights that do not add up to alpha: the picture darkens there.
    Gradients are derivatives of the pictures integrated over each pixel, not of the sampled ones, as the
    edge operator's are: take `sigma` of 0.7 px or more.

    Time grows with the number of pictures times K layers, K the most objects in one picture; composing a
    pixel grows with K^2. Memory in float32 with C channels, at the peak: 12 C + 50 bytes a picture, pixel and
    layer, 4 C + 8 more below a `sigma` of 3 px; 4 C + 8 a pixel of the result; 4 C + 32 a vertex, in the
    backward pass 12 more a further host thread; once 110 a face, kept with the `Triangles`.

    Args:
        vertices: Screen positions (x px, y px, inverse depth 1/m), y down, [B, V, 3] for B pictures of the
            same faces, or [V, 3] packed. float32 or float64 (drawn in float32). Carries a gradient. Faces
            with a corner that is not finite, or of inverse depth not between 1e-9 and 1e9, draw nothing.
        faces: Vertex indices, int32 [F, 3], all of one object, or `Triangles`, whose `instance` tells the
            objects of each picture apart. The layers are found once for each such object.
        attributes: Colours, or any C values, per vertex, [V, C] or [B, V, C], or `PerCorner`;
            interpolated perspective-correctly. Carries a gradient.
        image_size: (height, width) [px].
        sigma: Standard deviation of the blur [px], at least 0.
        gamma: Difference of inverse depth [1/m] at which the nearer object hides 73 % of the farther,
            positive; taken as 1e-6 below it. Scale it with the inverse depths of your scene.
        background: What is seen where nothing covers, [C] or one for each picture, [B, C], else 0.
            Carries a gradient.

    Returns:
        Colour composed over the background, and alpha, in [0, 1]; one picture for each of the B copies and
        each of the triangles' pictures. On a CPU pictures do not depend on the number of threads, bit for
        bit, and gradients have the same bits in every run; on a GPU their last digits vary.

    Raises:
        ValueError: If a shape, dtype or device does not fit, faces name vertices that are not there,
            `sigma` or `gamma` are out of range, or the attributes are a texture.
        KernelError: If the kernels cannot be compiled here.

    Reference:
        Our own method. The order in depth is softened by a sigmoid of the inverse depth over gamma after
        Liu et al. 2019, Soft Rasterizer, equation 3, but between objects instead of triangles; coverage is
        blurred instead of being a function of the distance.
    """
    _, triangles, copies = packed(vertices, faces)
    if isinstance(attributes, Texture):
        raise ValueError("soft_layers takes no texture: give colours per vertex or PerCorner")
    _check(vertices, image_size, sigma, gamma)
    channels = carried(attributes, vertices, triangles, copies).channels
    pictures = copies * triangles.image_count
    behind = background_rows(background, vertices, pictures, channels)
    layered = _layered(triangles)
    layers = _layers(vertices, layered, layered.sorted(attributes), image_size)
    layers = gaussian_blur(layers, sigma).view(pictures, layered.count, *image_size, channels + 2)
    return soft_over(layers, behind, gamma)


def soft_over(
    layers: Float[Tensor, "batch layer height width value"],
    background: Float[Tensor, "*batch channel"],
    gamma: float,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Compose layers softly in depth: each is hidden by how much the others cover and how near they are.

    With C the colour, A the coverage and S the inverse depth of the layers l, m at a pixel,
        T_l = product over m != l of 1 - A_m sigmoid((S_m - S_l) / gamma)
        colour = sum of T_l C_l + background * product of (1 - A_l),   alpha = 1 - product of (1 - A_l)
    with A cut to [0, 1] and S = N / max(A, 0.001). No order of the layers is preferred.

    Memory: nothing besides the results and the gradient of `layers`.

    Args:
        layers: C values premultiplied by coverage, then A, then N = S A, of K layers, [B, K, H, W, C + 2].
            Carries a gradient.
        background: [C], or one for each picture, [B, C]. Carries a gradient.
        gamma: [1/m], positive; taken as 1e-6 below it.

    Raises:
        ValueError: If a shape, dtype or device does not fit, or `gamma` is not positive and finite.
        KernelError: If the kernels cannot be compiled here.
    """
    if layers.ndim != 5 or layers.shape[-1] < 3 or layers.shape[1] < 1:
        raise ValueError(f"layers must have shape [B, K, H, W, C + 2], got {list(layers.shape)}")
    _check_numbers("layers", layers, gamma)
    behind = background_rows(background, layers, len(layers), layers.shape[-1] - 2)
    return _Over.apply(layers.contiguous(), behind.contiguous(), 1.0 / max(gamma, _LEAST_GAMMA))


class _Over(Function):
    """The soft "over". Saves its inputs and alpha; the backward pass recomputes all else."""

    @staticmethod
    def forward(layers: Tensor, background: Tensor, inverse_gamma: float) -> tuple[Tensor, Tensor]:
        batch, _, height, width, _ = layers.shape
        image = layers.new_empty(batch, height, width, background.shape[-1])
        alpha = layers.new_empty(batch, height, width)
        k = _loaded(layers)
        inputs = [view(layers, k.layer), view(background, k.colour), inverse_gamma]
        _pixels(k.forward, layers, inputs, [view(image, k.colour), view(alpha)])
        return image, alpha

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        layers, background, ctx.inverse_gamma = inputs
        ctx.save_for_backward(layers, background, output[1])

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_image: Tensor, grad_alpha: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        layers, background, alpha = ctx.saved_tensors
        need_layers, need_background, _ = ctx.needs_input_grad
        grad_image, grad_alpha = grad_image.contiguous(), grad_alpha.contiguous()
        grad_layers = grad_background = None
        if need_layers:
            grad_layers = torch.zeros_like(layers)
            k = _loaded(layers)
            inputs = [view(layers, k.layer), view(background, k.colour), ctx.inverse_gamma]
            inputs += [view(grad_image, k.colour), view(grad_alpha)]
            _pixels(k.backward, layers, inputs, [view(grad_layers, k.layer)])
        if need_background:
            grad_background = ((1.0 - alpha)[..., None] * grad_image).sum((1, 2))
            if len(background) != len(grad_background):
                grad_background = grad_background.sum(0, keepdim=True)
        return (
            grad_layers,
            grad_background,
            None,  # inverse_gamma
        )


def _loaded(layers: Tensor) -> Any:
    k = kernels(REAL[layers.dtype], layers.shape[-1] - 2)
    load_unique(kernels.__module__, (k.forward, k.backward), str(layers.device))
    return k


def _pixels(kernel: Any, layers: Tensor, inputs: list[Any], outputs: list[Any]) -> None:
    """Launch over all pixels; no two host threads share one."""
    batch, _, height, width, _ = layers.shape
    span = 1 if layers.is_cuda else width

    def some(s: Share) -> None:
        given = [*inputs, s.images[0], s.rows[0], span]
        launch(kernel, s.pixels(width, span), inputs=given, outputs=outputs, device=layers.device)

    if layers.numel():
        parts = shares(thread_count(layers.device, numbers=layers.numel()), batch, height)
        in_threads(len(parts), lambda i: some(parts[i]))


@dataclass(frozen=True, eq=False)
class _Layered:
    """Triangles whose pictures are the layers of others' pictures: picture p's are p * count and following.

    Attributes:
        triangles: The faces, sorted by layer.
        count: K, the most objects in one picture.
        order: Where each face was before, int64 [F]; None where no face moved.
    """

    triangles: Triangles
    count: int
    order: Int[Tensor, "face"] | None

    @classmethod
    def of(cls, top: Triangles) -> "_Layered":
        """Find the layers. Waits for a GPU."""
        objects, index = torch.unique(
            torch.stack([top.image, top.instance], 1).long(), dim=0, return_inverse=True
        )
        # objects are sorted by picture: those before a picture's first one belong to earlier pictures
        picture = objects[:, 0].contiguous()
        rank = torch.arange(len(objects), device=top.device) - torch.searchsorted(picture, picture)
        count = int(rank.max()) + 1 if len(rank) else 1
        layer = (picture * count + rank)[index]
        order = torch.argsort(layer, stable=True)
        triangles = Triangles(
            top.faces[order],
            weld=top.weld[order],
            image=layer[order].int(),
            image_count=top.image_count * count,
            culled=top.culled[order],
            faceted=top.faceted,
        )
        moved = bool((order[1:] < order[:-1]).any())
        return cls(triangles, count, order if moved else None)

    def sorted(self, attributes: Tensor | PerCorner) -> Tensor | PerCorner:
        """Attributes in the order of the sorted faces."""
        if isinstance(attributes, Tensor) or self.order is None:
            return attributes
        return PerCorner(attributes.values.index_select(-3, self.order))


def _layered(triangles: Triangles) -> _Layered:
    """The layers of these triangles, kept with them, so that edges are found once too."""
    return triangles.keep("layers", lambda: _Layered.of(triangles))


def _layers(
    vertices: Tensor, layered: _Layered, attributes: Tensor | PerCorner, image_size: tuple[int, int]
) -> Tensor:
    """Each layer hard and alone, [pictures * K, H, W, C + 2]: colour, coverage, inverse depth; 0 elsewhere.

    Inverse depth, not depth, since it is affine on the screen, where the edge operator takes its slopes, and
    bounded. But on the surface, with barycentrics held, it is depth that is interpolated.
    """
    triangles = layered.triangles
    z = vertices[..., 2]
    sane = (z > _FARTHEST) & (z < _NEAREST)  # False for NaN
    vertices = torch.cat([vertices[..., :2], torch.where(sane, z, 0.0)[..., None]], -1)
    raster = rasterize(vertices, triangles, image_size=image_size)
    colour = interpolate(attributes, vertices, triangles, raster)
    depth = interpolate((1.0 / torch.where(sane, z, 1.0))[..., None], vertices, triangles, raster)
    seen = (raster.face >= 0)[..., None]
    inverse_depth = torch.where(seen, 1.0 / torch.where(seen, depth, 1.0), 0.0)
    layers = torch.cat([colour, seen.to(colour.dtype), inverse_depth], -1)
    return edge_gradient(layers, vertices, triangles, raster=raster)


def _check(vertices: Tensor, image_size: tuple[int, int], sigma: float, gamma: float) -> None:
    if min(image_size) < 1:
        raise ValueError(f"image_size must be at least 1 x 1 px, got {tuple(image_size)}")
    if not 0.0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a finite number of pixels, at least 0, got {sigma}")
    _check_numbers("vertices", vertices, gamma)


def _check_numbers(name: str, tensor: Tensor, gamma: float) -> None:
    if tensor.dtype not in REAL:
        raise ValueError(f"{name} must be float32 or float64, got {tensor.dtype}")
    check_positive(gamma=gamma)
