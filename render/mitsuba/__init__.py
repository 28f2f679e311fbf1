"""An engine that others wrote: the path tracer Mitsuba 3."""

from render.mitsuba.engine import MitsubaEngine

__all__ = ["MitsubaEngine"]
