"""Viewer: an exhibit in the browser, with a panel to choose what is shown."""

import contextlib
import io
import math
import threading
import time
from typing import Any

import numpy as np
import viser
from jaxtyping import UInt8

from inverse.table import rotation_text
from inverse.view.exhibit import Exhibit
from inverse.view.stage import Stage, field_of_view, middle, sight
from scenes.scene import Scene

PANEL_WIDTH = 420  # [px]
GAP = 4  # [px] between the two pictures
FRAME_SECONDS = 0.12  # between scenes while the refinement is played


class Viewer:
    """A server on this machine that shows an exhibit to any browser that opens `url`.

    The engine draws every scene before the server starts, so that nothing is drawn while the user waits.

    Args:
        exhibit: What to show.
        port: Where to listen; the next free port where it is taken.
        engine: Whose pictures are shown beside the picture.

    Raises:
        EngineError: If the engine cannot be opened.
    """

    def __init__(self, exhibit: Exhibit, *, port: int = 8080, engine: str = "auto") -> None:
        self.exhibit = exhibit
        self.scenes = exhibit.scenes
        self.pictures = exhibit.pictures(engine)
        with _silent():
            self.server = viser.ViserServer("127.0.0.1", port, verbose=False)
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.stage = Stage(self.server, exhibit.world, exhibit.picture)
        self.shown = -1
        self._lock = threading.Lock()  # viser calls back from many threads
        self._panel()
        self._place_eye(self.scenes[0])
        self.show(0)

    @property
    def url(self) -> str:
        """The page to open."""
        return f"http://127.0.0.1:{self.server.get_port()}"

    def close(self) -> None:
        """Stop the server."""
        with _silent():
            self.server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, index: int) -> None:
        """Show scene `index` of the exhibit: hypotheses first, then steps."""
        with self._lock:
            if index == self.shown:
                return
            self.shown = index
            self.stage.show(self.scenes[index])
            self.images.image = self._side_by_side(self.pictures[index])
            self.caption.content = self._caption(index)
            self.table.content = self._table(self.scenes[index])
            self._name_switches(self.scenes[index])

    def _panel(self) -> None:
        gui, exhibit = self.server.gui, self.exhibit
        gui.set_panel_label("Unrender")
        gui.main_panel.dock_right()
        gui.main_panel.set_width(PANEL_WIDTH)
        both = "picture | engine's picture of the scene shown"
        self.images = gui.add_image(
            self._side_by_side(self.pictures[0]),
            label="engine's picture of the scene shown" if exhibit.picture is None else both,
            format="png",
        )
        self.caption = gui.add_markdown("")
        notes = [self._name(index) for index in range(len(exhibit.hypotheses))]
        self.hypothesis = gui.add_dropdown("Hypothesis", notes, hint="Scenes that give the same picture")
        self.hypothesis.on_update(lambda _: self.show(notes.index(self.hypothesis.value)))
        if len(exhibit.steps) > 1:
            self._add_refinement()
        look = gui.add_button("Look through the camera")
        look.on_click(self._look_through)
        with gui.add_folder("Found"):
            self.table = gui.add_markdown("")
            gui.add_markdown("\n".join(f"- {message}" for message in exhibit.messages))
        with gui.add_folder("Visible"):
            self._add_switches()

    def _add_refinement(self) -> None:
        gui, last = self.server.gui, len(self.exhibit.steps)
        self.step = gui.add_slider(
            "Refinement", 1, last, 1, last, hint="Scenes tried on the way, from the first to the last"
        )
        self.step.on_update(lambda _: self.show(len(self.exhibit.hypotheses) + self.step.value - 1))
        play = gui.add_button("Play the refinement")

        @play.on_click
        def _(_: Any) -> None:
            for step in range(1, last + 1):
                self.step.value = step  # type: ignore[misc]  # mypy overlooks viser's setter
                time.sleep(FRAME_SECONDS)

    def _look_through(self, event: viser.GuiEvent[Any]) -> None:
        """Put the eye of whoever pressed the button where the camera was, and the camera out of sight."""
        camera = self.scenes[self.shown].camera
        self.frustum.value = False  # type: ignore[misc]  # mypy overlooks viser's setter
        if event.client is not None:
            with event.client.atomic():
                event.client.camera.fov = field_of_view(camera)
                event.client.camera.position = camera.translation[0].numpy()
                event.client.camera.wxyz = sight(camera)

    def _add_switches(self) -> None:
        gui, stage = self.server.gui, self.stage
        self.switches = [self._add_switch(slot) for slot in range(self.scenes[0].slots)]
        names = gui.add_checkbox("names", True)
        names.on_update(lambda _: stage.set_labelled(names.value))
        self.frustum = gui.add_checkbox("camera", True)
        self.frustum.on_update(lambda _: stage.set_camera_visible(self.frustum.value))

    def _add_switch(self, slot: int) -> viser.GuiCheckboxHandle:
        switch = self.server.gui.add_checkbox(f"object {slot}", True)
        switch.on_update(lambda _: self.stage.set_visible(slot, switch.value))
        return switch

    def _name_switches(self, scene: Scene) -> None:
        """Steps need not hold the same objects in the same slots."""
        for slot, switch in enumerate(self.switches):
            index = int(scene.asset[0, slot])
            switch.visible = index >= 0
            switch.label = self.exhibit.world.assets[index].name if index >= 0 else ""

    def _place_eye(self, scene: Scene) -> None:
        """Where a visitor begins: beside the camera and above it, so that it and the objects are seen."""
        target, eye = middle(scene), scene.camera.translation[0].numpy()
        away = eye - target
        angle = math.radians(48.0)
        turn = np.array(
            [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        )
        start = self.server.initial_camera
        start.fov = math.radians(40.0)
        start.position = target + 1.6 * turn @ away + np.array([0.0, 0.1 * float(np.linalg.norm(away)), 0.0])
        start.look_at = target + 0.38 * away
        start.up = np.array([0.0, 1.0, 0.0])
        start.near, start.far = 0.01, 1000.0

    def _side_by_side(self, drawn: UInt8[np.ndarray, "row column 3"]) -> UInt8[np.ndarray, "row column 3"]:
        """The picture and what the engine drew, together as wide as the panel or wider."""
        from PIL import Image

        shown = [drawn] if self.exhibit.picture is None else [self.exhibit.picture, drawn]
        zoom = math.ceil(PANEL_WIDTH / 2 / drawn.shape[1])
        size = (zoom * drawn.shape[1], zoom * drawn.shape[0])
        gap = np.full((size[1], GAP, 3), 255, np.uint8)
        parts = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.NEAREST)) for p in shown]
        return np.concatenate([parts[0], *(part for p in parts[1:] for part in (gap, p))], axis=1)

    def _name(self, index: int) -> str:
        """What a hypothesis is called in the list; no two alike."""
        found = self.exhibit.hypotheses[index]
        loss = f" (loss {found.loss:.2g})" if math.isfinite(found.loss) else ""
        return f"{index + 1}: {found.note or 'recovered'}{loss}"

    def _caption(self, index: int) -> str:
        """What is shown, in a line."""
        number = index - len(self.exhibit.hypotheses)
        if number < 0:
            return f"Hypothesis **{self._name(index)}**"
        step = self.exhibit.steps[number]
        when = f"after {step.renders} pictures and {step.seconds:.1f} s"
        return f"Step **{number + 1}**: {step.stage}, loss {step.loss:.2g}, {when}"

    def _table(self, scene: Scene) -> str:
        """The objects of the scene shown, in Markdown; what is said of them holds for hypothesis 1 only."""
        said = {found.slot: found for found in self.exhibit.objects} if self.shown == 0 else {}
        lines = ["| object | x y z [m] | turned | seen | verdict |", "|---|---|---|---|---|"]
        for slot in range(scene.slots):
            index = int(scene.asset[0, slot])
            if index < 0:
                continue
            asset, found = self.exhibit.world.assets[index], said.get(slot)
            seen = "" if found is None or found.visible_fraction is None else f"{found.visible_fraction:.0%}"
            place = " ".join(f"{v:.2f}" for v in scene.translation[0, slot].tolist())
            turned = rotation_text(self.exhibit.world, scene.rotation[0, slot], asset)
            verdict = "" if found is None else found.verdict
            lines.append(f"| {asset.name} | {place} | {turned} | {seen} | {verdict} |")
        return "\n".join(lines)


def _silent() -> contextlib.redirect_stdout[io.StringIO]:
    """Nothing printed: viser says on stdout that it starts and stops."""
    return contextlib.redirect_stdout(io.StringIO())
