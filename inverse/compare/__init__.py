"""Strategies side by side: `compare`, and what it takes and gives back."""

from inverse.compare.comparison import Settings, compare
from inverse.compare.methods import Method, methods
from inverse.compare.problems import opened
from inverse.compare.result import Result, markdown, table

__all__ = ["Method", "Result", "Settings", "compare", "markdown", "methods", "opened", "table"]
