"""The strategy "surrogate": networks that imitate what gives no gradients, everywhere or around one point."""

from render.surrogate.function import FunctionSurrogate, fit_surrogate
from render.surrogate.gradients import SurrogateGradients
from render.surrogate.imitator import Drawing, Imitator, load_imitator, save_imitator
from render.surrogate.local import LocalSurrogate
from render.surrogate.strategy import surrogate

__all__ = [
    "Drawing",
    "FunctionSurrogate",
    "Imitator",
    "LocalSurrogate",
    "SurrogateGradients",
    "fit_surrogate",
    "load_imitator",
    "save_imitator",
    "surrogate",
]
