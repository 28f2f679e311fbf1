"""A perceptron for pixels that objects modulate."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import silu

_CONTROL = 96  # hidden units of what turns an object's numbers into factors and shifts


class Film(torch.nn.Module):
    """A perceptron over samples whose hidden layers are scaled and shifted by the sample's object.

    Args:
        inputs: Numbers of a sample.
        controls: Numbers of an object.
        outputs: Of a sample.
        width: Of the hidden layers.
        layers: How many there are.

    Reference: E. Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.
    """

    def __init__(self, inputs: int, controls: int, outputs: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.shape = (layers, 2, width)
        self.control = torch.nn.Sequential(
            torch.nn.Linear(controls, _CONTROL),
            torch.nn.SiLU(),
            torch.nn.Linear(_CONTROL, 2 * layers * width),
        )
        widths = [inputs] + [width] * (layers - 1)
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(w, width) for w in widths)
        self.out = torch.nn.Linear(width, outputs)

    def forward(
        self,
        samples: Float[Tensor, "sample input"],
        objects: Float[Tensor, "object control"],
        owner: Int[Tensor, "sample"],
    ) -> Float[Tensor, "sample output"]:
        """The outputs of N samples; `owner` says which object modulates each."""
        control = self.control(objects).view(-1, *self.shape)
        for layer, modulation in zip(self.hidden, control.unbind(1), strict=True):
            scale, shift = modulation.unbind(1)
            scale, shift = (1.0 + scale).index_select(0, owner), shift.index_select(0, owner)
            samples = silu(torch.addcmul(shift, layer(samples), scale))
        return self.out(samples)


def waves(values: Float[Tensor, "sample value"]) -> Float[Tensor, "sample more"]:
    """The values, and sines and cosines of one and two times a half turn per 2: five times as many."""
    turns = torch.cat([values * 1.5, values * 3.0], 1)
    return torch.cat([values, turns.sin(), turns.cos()], 1)
