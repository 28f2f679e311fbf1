"""The strategy "autodiff": soft pictures whose every step is on the autograd tape."""

from render.autodiff.module import AutodiffGradients

__all__ = ["AutodiffGradients"]
