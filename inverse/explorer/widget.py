"""Explorer: an exploration as a widget in a notebook."""

import contextlib
import time
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import ipywidgets as widgets
from jaxtyping import Float
from torch import Tensor

from inverse.explorer.arrows import Arrows, descent_arrows, way_to
from inverse.explorer.canvas import Canvas, difference
from inverse.explorer.exploration import Asked, Exploration

LARGE, SMALL = 440, 188  # [px] heights of the pictures
COLOURS = ("#ff5a00", "#00d8ff", "#ff4fd8", "#ffe600", "#54ff5a", "#b48cff", "#3d6bff", "#ff9d9d")
LIVE = "manual"  # strategies that answer at once: asked whenever something moves. Others on demand
FOLLOWED = 10  # steps at a press of the button
NOTCHES = 400  # of a slider
_WIDE, _NAMED = {"width": "400px"}, {"description_width": "110px"}
_SWATCH = '<div style="background:{};width:14px;height:14px;border:1px solid #444;margin:6px 4px"></div>'


class Explorer(widgets.VBox):  # type: ignore[misc]  # ipywidgets is published without types
    """Sliders for every free number of a scene, and where each strategy would go from there.

    The large picture is the engine's, with arrows (where steepest descent would move each object) and arcs
    (which way it would turn it), a colour for each strategy that is ticked. White arrows lead to the truth,
    where that is known. The longest arrow and the widest arc of a strategy have a fixed size, so that they
    compare objects; directions compare strategies.

    Attributes:
        exploration: What is explored; its `theta` is what the sliders show.
        milliseconds: That the last update took.
    """

    def __init__(self, exploration: Exploration) -> None:
        self.exploration = exploration
        self.answers: dict[str, Asked] = {}
        self.milliseconds = 0.0
        self._quiet = False
        self._give_back = weakref.finalize(self, exploration.close)  # at the latest when Python ends
        self.main, self.target, self.difference = map(self._image, (LARGE, SMALL, SMALL))
        self.caption = widgets.HTML()
        self.sliders = {p: self._slider(p) for p in exploration.active}
        self.ticks = {name: self._tick(name) for name in exploration.methods}
        self.said = {name: widgets.HTML() for name in self.ticks}
        top = widgets.HBox([self.main, self._small_pictures(), self._strategies()])
        super().__init__([top, self.caption, self._tabs()])
        self.refresh()

    def refresh(self, *, keep: bool = False) -> None:
        """Draw the scene anew, and ask the strategies that answer at once.

        Args:
            keep: The scene has not moved: what others answered still holds.
        """
        began, exploration = time.perf_counter(), self.exploration
        if not keep:
            self.answers.clear()
        for name, tick in self.ticks.items():
            if tick.value and name.startswith(LIVE) and name not in self.answers:
                self.answers[name] = exploration.ask(name)
        picture = exploration.picture()
        self._draw(picture)
        self.milliseconds = 1000.0 * (time.perf_counter() - began)
        loss, blur = exploration.loss(picture), exploration.blur
        self.caption.value = (
            f"loss <b>{loss:.3g}</b>, blurred by {blur:.2g} px; drawn in {self.milliseconds:.0f} ms. "
            "Arrows: where a strategy moves an object; arcs: how it turns it; white: the truth."
        )
        for name, html in self.said.items():
            html.value = self._answer(name)

    def ask(self) -> None:
        """Ask all strategies that are ticked, the slow ones too, for their gradient here."""
        for name, tick in self.ticks.items():
            if tick.value and name not in self.answers:
                self.answers[name] = self.exploration.ask(name)
        self.refresh(keep=True)

    def follow(self, name: str, steps: int = FOLLOWED) -> None:
        """Take steps of refinement down a strategy's gradient, and show each."""
        descent = self.exploration.descent(name)
        for _ in range(steps):
            descent.step(self.exploration.target[None], 0.0)
            self.move(descent.theta[0])

    def move(self, theta: Float[Tensor, "parameter"]) -> None:
        """Put the scene, and the sliders, somewhere else."""
        self.exploration.theta = theta.detach().clone()
        with self._quietly():
            for p, slider in self.sliders.items():
                slider.value = min(max(float(theta[p]), slider.min), slider.max)
        self.refresh()

    def close(self) -> None:
        """Close the widget and the engine."""
        self._give_back()
        super().close()

    def _draw(self, picture: Float[Tensor, "row column 3"]) -> None:
        exploration = self.exploration
        scene, size = exploration.scene.detach(), exploration.size
        canvas = Canvas(picture, LARGE)
        steps = exploration.steps
        for name, colour in zip(self.ticks, COLOURS, strict=False):
            answer = self.answers.get(name)
            if self.ticks[name].value and answer is not None:
                self._draw_arrows(
                    canvas, descent_arrows(exploration.world, scene, answer.gradient, steps, size), colour
                )
        if exploration.truth is not None:
            for line in way_to(exploration.world, scene, exploration.truth, size):
                canvas.arrow(line, "#ffffff", width=1.5)
        self.main.value = canvas.png()
        self.difference.value = Canvas(difference(picture, exploration.target), SMALL).png()

    @staticmethod
    def _draw_arrows(canvas: Canvas, arrows: Arrows, colour: str) -> None:
        for line in arrows.turns:
            canvas.arrow(line, colour, width=2.0)
        for line in arrows.moves:
            canvas.arrow(line, colour)

    def _answer(self, name: str) -> str:
        """What is said beside a strategy."""
        answer = self.answers.get(name)
        if answer is None:
            return "" if name.startswith(LIVE) or not self.ticks[name].value else "<i>press Ask</i>"
        return f"{answer.milliseconds:.0f} ms" + ("" if answer.finite else ", not finite")

    def _slider(self, parameter: int) -> Any:
        world = self.exploration.world
        low, high = float(world.low[parameter]), float(world.high[parameter])
        name, unit = world.names[parameter].split(".")[-1], world.units[parameter]
        slider = widgets.FloatSlider(
            value=min(max(float(self.exploration.theta[parameter]), low), high),
            min=low,
            max=high,
            step=(high - low) / NOTCHES,
            description=name if unit == "1" else f"{name} [{unit}]",
            readout_format=".3f",
            layout=_WIDE,
            style=_NAMED,
        )
        slider.observe(partial(self._slid, parameter), "value")
        return slider

    def _slid(self, parameter: int, change: dict[str, Any]) -> None:
        if not self._quiet:
            self.exploration.theta[parameter] = change["new"]
            self.refresh()

    def _tick(self, name: str) -> Any:
        first = next(iter(self.exploration.methods))
        tick = widgets.Checkbox(
            value=name == first, description=name, indent=False, layout={"width": "160px"}
        )
        tick.observe(lambda _: self.refresh(keep=True), "value")
        return tick

    def _image(self, height: int) -> Any:
        """A place for a picture of that height [px]."""
        rows, columns = self.exploration.size
        width = round(height * columns / rows)
        size = {"width": f"{width}px", "height": f"{height}px", "min_width": f"{width}px"}
        return widgets.Image(format="png", layout=widgets.Layout(**size))

    def _small_pictures(self) -> Any:
        self.target.value = Canvas(self.exploration.target, SMALL).png()
        parts = [widgets.HTML("to explain"), self.target, widgets.HTML("difference"), self.difference]
        return widgets.VBox(parts, layout={"margin": "-6px 12px 0 12px", "flex": "0 0 auto"})

    def _strategies(self) -> Any:
        """A row for each strategy, and what can be done with them."""
        rows = [
            widgets.HBox([widgets.HTML(_SWATCH.format(colour)), self.ticks[name], self.said[name]])
            for name, colour in zip(self.ticks, COLOURS, strict=False)
        ]
        blur, width = self.exploration.blur, widgets.Layout(width="160px")
        self.blur = widgets.FloatSlider(
            value=blur, min=0.5, max=16.0, step=0.25, description="blur [px]", layout={"width": "330px"}
        )
        self.blur.observe(self._blurred, "value")
        self.ask_button = widgets.Button(
            description="Ask the slow ones", tooltip="For their gradient here", layout=width
        )
        self.ask_button.on_click(lambda _: self.ask())
        self.followed = widgets.Dropdown(options=list(self.ticks), layout=width)
        self.follow_button = widgets.Button(
            description=f"Follow {FOLLOWED} steps", tooltip="Refine down its gradient", layout=width
        )
        self.follow_button.on_click(lambda _: self.follow(self.followed.value))
        self.back_button = widgets.Button(description="Back to the start", layout=width)
        self.back_button.on_click(lambda _: self.move(self.exploration.start))
        follow = widgets.HBox([self.followed, self.follow_button])
        back = widgets.HBox([self.ask_button, self.back_button])
        return widgets.VBox([*rows, self.blur, back, follow])

    def _blurred(self, change: dict[str, Any]) -> None:
        self.exploration.blur = change["new"]
        self.refresh()

    def _tabs(self) -> Any:
        """A tab of sliders for each object, and one for each kind of number that is the whole scene's."""
        world = self.exploration.world
        groups: dict[str, list[Any]] = {}
        for p, slider in self.sliders.items():
            slot = world.slot_of[p]
            title = world.groups[p] if slot < 0 else f"{self._asset(slot)} ({slot})"
            groups.setdefault(title, []).append(slider)
        return widgets.Tab([widgets.VBox(sliders) for sliders in groups.values()], titles=tuple(groups))

    def _asset(self, slot: int) -> str:
        return self.exploration.world.assets[int(self.exploration.like.asset[0, slot])].name

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """Sliders that are moved here tell nobody."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False
