"""Autograd operator of soft rasterization: argument checks, launches, nothing else."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.attributes import Attributes, background_rows, carried
from render.checks import check_positive
from render.compilation import load_unique
from render.launch import REAL, Function, in_threads, launch, part, thread_count, view
from render.soft.kernels import kernels
from render.triangles import Triangles, packed

_CUT = 9.2  # faces end where coverage is sigmoid(-9.2) = 1e-4, 3.03 sigma away: a 40th of an 8-bit step
_OPAQUE = 16.0  # exp(-16) = 1.1e-7 is float32's rounding of 1
_LEAST_SIGMA, _GREATEST_SIGMA, _LEAST_GAMMA = 1e-6, 1e9, 1e-9  # beyond, float32 overflows in the gradients
_ITEMS = 2**18  # that a GPU is to have at least: where faces are fewer, several share a face's rows
_BANDS_PER_THREAD = 4  # of a picture: objects are in the middle more often than at the border
_NUMBERS_PER_PIXEL = 8  # a pixel costs as much as 8 numbers read and written
_UNSEEN = -1e30  # a score below that of any face

_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def soft_rasterize(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: "Int[Tensor, 'face 3'] | Triangles",
    attributes: Attributes,
    *,
    image_size: tuple[int, int],
    sigma: float = 1.0,
    gamma: float = 0.01,
    background: Float[Tensor, "*batch channel"] | None = None,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Draw triangles that are soft at their borders and in depth, differentiably in everything.

    A face covers a pixel by sigmoid(+-d^2/sigma^2), d the distance from the pixel's centre to the face's
    border, + inside. Alpha is 1 - prod(1 - coverage) over all faces. The colour is the faces' mean, weighted
    by coverage * exp(inverse depth / gamma), and is laid over the background by alpha.

    Every face acts on all pixels within 3 sigma, hidden or not: cost grows with sigma^2, so draw wide
    softness in a lower resolution. Where many small faces half cover a pixel, it is nearly opaque: a dense
    mesh looks larger than it is, by about sigma. Cull the faces of closed meshes: their backs make
    silhouettes more opaque and take half of the time.

    Not supported: gradients of gradients; faces that reach behind the eye are not drawn, clip them before.

    Args:
        vertices: (x px, y px, inverse depth), y down, pixel centres at +0.5: [B, V, 3] or, for the packed
            vertices of one copy, [V, 3]. float32, or float64 to check. Carries a gradient.
        faces: int32 [F, 3], or `Triangles`: those that are culled draw their fronts only, those of several
            pictures give `image_count` pictures per copy, copy after copy.
        attributes: What is interpolated, perspective-correctly: values per vertex [V, C] or [B, V, C],
            `PerCorner`, or a `Texture`, which is looked up bilinearly and repeats. Outside of a face, those
            of its border near by. Values, texels and texture coordinates carry gradients.
        image_size: (height, width) [px].
        sigma: Softness of borders [px]: at a distance of sigma coverage is 0.73 inside and 0.27 outside.
            Values below 1e-6 act as 1e-6.
        gamma: Softness in depth, in the unit of the vertices' third coordinate: a face nearer by gamma
            weighs e times as much. With depths in metres, 0.01/m is 1 cm at a distance of 1 m, 9 cm at 3 m:
            gamma times the square of the depth. Values below 1e-9 act as 1e-9.
        background: Colour behind the faces, [C] or one per picture [B, C]; None is 0. Carries a gradient.

    Returns:
        Colour over the background [B, H, W, C], and alpha [B, H, W] in [0, 1]; B counts pictures.

        Vertices that are not finite, further than 1e9 px off, or with an inverse depth outside (1e-9, 1e9),
        and triangles without an area (height below 1e-6 px or 1e-7 of the length) remove their faces; these
        get zero gradients. On a CPU pictures do not depend on the number of threads, and gradients have the
        same bits in every run with one number of threads; on a GPU last digits vary, because atomic
        additions come in any order.

        A face ends 3.03 sigma outside, where its coverage is 1e-4, and weights below 1e-7 are left out. In
        front of something that is further away by more than 9 gamma, coverage of 1e-4 may still decide the
        colour; it then jumps at the face's end, and no gradient knows of it.

        Memory [bytes, float32], with C channels: 4 C + 16 per pixel, kept for the backward pass, there 16
        more, and 4 C or 4 where the loss sees only one of the results; 12 per vertex, 4 C per row of the
        attributes and per texel for gradients, times the number of host threads on a CPU; nothing per face,
        nor per pair of face and pixel.

    Raises:
        ValueError: If a shape, dtype or device does not fit, or `sigma` or `gamma` is not positive.
        KernelError: If the kernels cannot be compiled here.

    Reference:
        Liu et al. 2019, Soft Rasterizer: coverage, aggregated colour and silhouette. Here sigma is a length,
        not an area. Depth is the inverse depth itself, not normalised between clipping planes. The background
        is laid behind by alpha: as one more face of the weighted mean, as theirs, it would lose against a
        face's faintest coverage, and coloured silhouettes were not soft but dilated to the 3 sigma end.
    """
    height, width = image_size
    flat, triangles, copies = packed(vertices, faces)
    _check(vertices, image_size, sigma, gamma)
    surface = carried(attributes, vertices, triangles, copies)
    pictures = copies * triangles.image_count
    behind = _dense(background_rows(background, vertices, pictures, surface.channels))
    settings = _Settings(
        triangles=triangles,
        index=surface.index,
        stride=surface.stride,
        copies=copies,
        height=height,
        width=width,
        sigma=min(max(sigma, _LEAST_SIGMA), _GREATEST_SIGMA),
        gamma=max(gamma, _LEAST_GAMMA),
        cut=_CUT,
        opaque=_OPAQUE,
        sequential=_sequential(vertices.device),
    )
    colour, alpha, _ = _Soft.apply(_dense(flat), _dense(surface.values), surface.texels, behind, settings)
    return colour, alpha


def _sequential(device: torch.device) -> bool:
    """True where a launch runs its items one after another."""
    return device.type == "cpu"


@dataclass(frozen=True, eq=False)
class _Settings:
    """What is no tensor with a gradient."""

    triangles: Triangles
    index: Tensor
    stride: int
    copies: int
    height: int
    width: int
    sigma: float
    gamma: float
    cut: float
    opaque: float
    sequential: bool

    @property
    def pictures(self) -> int:
        return self.copies * self.triangles.image_count


class _Soft(Function):
    """Colour and alpha. Saves its inputs, the colour, 3 numbers per pixel; the backward pass recomputes."""

    @staticmethod
    def forward(
        vertices: Tensor, values: Tensor, texels: Tensor | None, background: Tensor, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = settings.pictures, settings.height, settings.width
        colour = vertices.new_zeros(*shape, background.shape[-1])
        alpha = vertices.new_empty(shape)
        state = vertices.new_zeros(*shape, 3)
        # not by assignment: it makes a tensor of the number on the host first
        state[..., 0].fill_(_UNSEEN)
        if settings.sequential:
            state[..., 2].fill_(1.0)  # transparency; else its logarithm
        draw = _Launcher(vertices, values, texels, settings, colour.shape[-1])
        k = draw.kernels
        pixels = [view(state, k.vec3), view(colour, k.colour)]
        if settings.sequential:
            draw.faces(k.blend, lambda _: [], pixels)
        else:
            scalars = view(state)
            draw.faces(k.score, lambda _: [], [scalars])
            draw.faces(k.gather, lambda _: [], [scalars, pixels[1]])
        inputs = [view(background, k.colour), not settings.sequential]
        draw.pixels(k.finish, inputs, [*pixels, view(alpha)])
        return colour, alpha, state

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, ctx.settings = inputs
        colour, _, state = output
        ctx.mark_non_differentiable(state)
        ctx.set_materialize_grads(False)  # else there were zeros for the state, as large as it is
        ctx.save_for_backward(*tensors, colour, state)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_colour: Tensor | None, grad_alpha: Tensor | None, _: None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, None]:
        vertices, values, texels, background, colour, state = ctx.saved_tensors
        *wanted, need_background, _ = ctx.needs_input_grad
        grad_colour = torch.zeros_like(colour) if grad_colour is None else _dense(grad_colour)
        grad_alpha = colour.new_zeros(colour.shape[:3]) if grad_alpha is None else _dense(grad_alpha)
        grads: _Gradients = None, None, None
        if any(wanted):
            draw = _Launcher(vertices, values, texels, ctx.settings, colour.shape[-1])
            grads = _grad_faces(draw, wanted, background, colour, state, grad_colour, grad_alpha)
        grad_background = None
        if need_background:
            grad_background = (state[..., 2:] * grad_colour).sum((1, 2))
            if len(background) == 1:
                grad_background = grad_background.sum(0, keepdim=True)
        return (
            *grads,
            grad_background,
            None,  # settings
        )


def _grad_faces(
    draw: "_Launcher",
    wanted: list[bool],
    background: Tensor,
    colour: Tensor,
    state: Tensor,
    grad_colour: Tensor,
    grad_alpha: Tensor,
) -> _Gradients:
    """Gradients of vertices, values, texels, those that are wanted, from the buffers of all threads."""
    k = draw.kernels
    pixels = state.new_empty(*state.shape[:3], 4)
    inputs = [view(background, k.colour), view(state, k.vec3), view(colour, k.colour)]
    inputs += [view(grad_colour, k.colour), view(grad_alpha), draw.softness.negligible]
    draw.pixels(k.prepare, inputs, [view(pixels, k.vec4)])
    buffers = [
        t.new_zeros(draw.buffers(own) if w else 0, *t.shape)
        for t, own, w in zip(draw.tensors, draw.owned, wanted, strict=True)
    ]
    outputs = [view(b, d) for b, d in zip(buffers, (k.vec3, k.carried, k.colour), strict=True)]
    flags = wp.vec3i(*(int(w) for w in wanted))
    given = [view(pixels, k.vec4), view(grad_colour, k.colour), flags]

    def inputs_of(index: int) -> list[Any]:
        return [*given, wp.vec3i(*(index if draw.buffers(own) > 1 else 0 for own in draw.owned))]

    draw.faces(k.spread, inputs_of, outputs)
    sums = ((b.sum(0) if len(b) > 1 else b[0]) if w else None for b, w in zip(buffers, wanted, strict=True))
    vertices, values, texels = sums
    return vertices, values, texels


class _Launcher:
    """Launches the kernels, on a CPU from several host threads.

    They share copies where there are enough, else pictures, else bands of rows. So no pixel belongs to two
    threads, and a pixel meets its faces in the same order whatever the number of threads.
    """

    def __init__(
        self, vertices: Tensor, values: Tensor, texels: Tensor | None, settings: _Settings, channels: int
    ) -> None:
        self.kernels = k = kernels(REAL[vertices.dtype], channels, texels is not None)
        self.settings = settings
        self.device = vertices.device
        if texels is None:
            texels = vertices.new_zeros(1, 1, 1, channels)
        self.tensors = vertices, values, texels
        triangles = settings.triangles
        names = ("blend",) if settings.sequential else ("score", "gather")
        used = tuple(getattr(k, n) for n in (*names, "finish", "prepare", "spread"))
        load_unique(kernels.__module__, used, str(self.device))
        numbers = settings.pictures * settings.height * settings.width + settings.copies * len(triangles)
        self.threads = thread_count(self.device, numbers=_NUMBERS_PER_PIXEL * numbers)
        self.by_copy = settings.copies >= self.threads
        # what no two threads add to, if each has its own copies
        self.owned = True, settings.stride > 0 or settings.copies == 1, len(texels) == settings.copies
        self.softness = self._softness()
        self.scene = self._scene()

    def buffers(self, owned: bool) -> int:
        """How many buffers a gradient needs, so that no two threads add to one."""
        return 1 if owned and self.by_copy else self.threads

    def faces(self, kernel: Any, inputs: Callable[[int], list[Any]], outputs: list[Any]) -> None:
        """Launch over all faces; `inputs` gives what differs between threads."""
        s = self.settings
        if s.pictures == 0 or len(s.triangles) == 0:
            return
        chunks = 1 if s.sequential else min(s.height, -(-_ITEMS // (s.copies * len(s.triangles))))

        def some(index: int) -> None:
            for copies, faces, rows in self._shares(index):
                work = self.kernels.Work()
                work.first_copy, work.first_face = copies[0], faces[0]
                work.row_begin, work.row_end, work.chunks = *rows, chunks
                dim = (copies[1] - copies[0], faces[1] - faces[0], chunks)
                given = [self.scene, self.softness, work, *inputs(index)]
                launch(kernel, dim, inputs=given, outputs=outputs, device=self.device)

        in_threads(self.threads, some)

    def pixels(self, kernel: Any, inputs: list[Any], outputs: list[Any]) -> None:
        """Launch over all pixels."""
        s = self.settings
        lines = s.pictures * s.height
        span = s.width if self.device.type == "cpu" else 1

        def some(index: int) -> None:
            first, end = part(index, self.threads, lines)
            dim = (end - first, -(-s.width // span))
            launch(kernel, dim, inputs=[*inputs, first, span], outputs=outputs, device=self.device)

        if lines > 0:
            in_threads(self.threads, some)

    def _shares(self, index: int) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
        """Copies, faces and rows that a thread draws, one launch after another."""
        s, threads = self.settings, self.threads
        copies, faces, rows = (0, s.copies), (0, len(s.triangles)), (0, s.height)
        if threads == 1:
            return [(copies, faces, rows)]
        if self.by_copy:
            return [(part(index, threads, s.copies), faces, rows)]
        if s.triangles.image_count >= _BANDS_PER_THREAD * threads:
            images = part(index, threads, s.triangles.image_count)
            bounds = torch.tensor(images, dtype=torch.int32)
            first, end = torch.searchsorted(s.triangles.image, bounds).tolist()
            return [(copies, (first, end), rows)]
        bands = threads * _BANDS_PER_THREAD
        return [(copies, faces, part(band, bands, s.height)) for band in range(index, bands, threads)]

    def _softness(self) -> Any:
        s, soft = self.settings, self.kernels.Softness()
        soft.inverse_sigma2, soft.inverse_gamma = s.sigma**-2, 1 / s.gamma
        soft.radius, soft.cut = math.sqrt(s.cut) * s.sigma, s.cut
        # the best face of a pixel may itself cover only sigmoid(-cut) of it
        soft.faint, soft.negligible = s.cut + s.opaque, math.exp(-s.opaque)
        return soft

    def _scene(self) -> Any:
        s, k, scene = self.settings, self.kernels, self.kernels.Scene()
        vertices, values, texels = self.tensors
        scene.vertices, scene.values = view(vertices, k.vec3), view(values, k.carried)
        scene.texels = view(texels, k.colour)
        scene.faces, scene.rows = view(s.triangles.faces, wp.vec3i), view(s.index, wp.vec3i)
        scene.image, scene.culled = view(s.triangles.image), view(s.triangles.culled)
        scene.vertex_count, scene.stride = len(vertices) // max(1, s.copies), s.stride
        scene.image_count = s.triangles.image_count
        return scene


def _dense(tensor: Tensor) -> Tensor:
    """Contiguous, also to Warp: PyTorch calls strides of 0 contiguous where there is one item or none."""
    if tensor.is_contiguous() and tensor.stride(-1) == 1 and tensor.numel() > 0:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _check(vertices: Tensor, image_size: tuple[int, int], sigma: float, gamma: float) -> None:
    if vertices.dtype not in REAL:
        raise ValueError(f"vertices must be float32 or float64, got {vertices.dtype}")
    if min(image_size) < 1:
        raise ValueError(f"image_size must be at least 1 x 1 px, got {tuple(image_size)}")
    check_positive(sigma=sigma, gamma=gamma)
