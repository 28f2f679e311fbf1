"""Sketches: thousands of small pictures of single objects, which tell search what the engine should draw."""

from inverse.sketch.sketcher import Footprints, Lamp, Rest, Shadow, Sketch, Sketcher, Target, View

__all__ = ["Footprints", "Lamp", "Rest", "Shadow", "Sketch", "Sketcher", "Target", "View"]
