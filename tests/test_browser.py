"""The viewer and the explorer in a real browser: pages opened, sliders moved, pictures that change."""

import io
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import Browser, find_browser, until
from PIL import Image
from small_world import small_world

from inverse.recovery import FoundObject, Hypothesis, Step
from inverse.view import Exhibit, Viewer

CELL = """
import inverse, scenes
inverse.explore(scenes.World.load("cube"), engine="software", height=64)
"""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Skips where there is none, and says why; with REQUIRE_BROWSER=1 that is a failure."""
    if find_browser() is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but no Chromium was found")
        pytest.skip("no Chromium was found (Debian's package: chromium)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with one notebook, explore.ipynb, that nobody has run."""
    import nbformat

    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())], metadata=KERNEL)
    nbformat.write(notebook, folder / "explore.ipynb")
    settings = {
        "IdentityProvider.token": "",
        "ServerApp.open_browser": "False",
        "ServerApp.root_dir": str(folder),
        "ServerApp.port": "0",
        "ServerApp.allow_root": "True",
        "ServerApp.ip": "127.0.0.1",
    }
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in settings.items())],
            stdout=output,
            stderr=output,
            env={**os.environ, **own},
        )
        try:
            yield until(lambda: re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()), "a server").group()
        finally:
            server.terminate()
            server.wait(timeout=60)


@pytest.fixture(scope="module")
def viewer():
    """Two hypotheses and two steps of a blue ball beside a box; the first step lacks the ball."""
    world = small_world()
    scene = world.empty()
    scene.asset[0, :2] = torch.tensor([0, 1])
    scene.translation[0, :2] = torch.tensor([[-0.5, 0.0, 1.0], [0.5, 0.2, 1.0]])
    scene.scale[0, :2] = 2.0
    scene.colour[0, 1] = torch.tensor([0.05, 0.1, 0.9])
    moved = replace(scene, translation=scene.translation + 0.3)
    exhibit = Exhibit(
        world,
        hypotheses=(Hypothesis(scene, 0.01, "best"), Hypothesis(moved, 0.02, "moved")),
        steps=(Step("birth", 0.5, 4, 0.1, scene.without(1)), Step("result", 0.01, 9, 0.2, scene)),
        objects=(FoundObject(0, "box"), FoundObject(1, "ball", verdict="doubtful")),
        title="photo.png",
    )
    with Viewer(exhibit, port=18180, engine="software") as viewer:
        yield viewer


def seen(browser, below=1.0):
    """The page as it is seen, in [0, 1]; the left part of it, where the panel is not."""
    image = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB")) / 255
    return image[:, : round(below * image.shape[1])]


def blue(browser):
    """How many pixels of the 3D view are blue."""
    red, green, b = np.moveaxis(seen(browser, 0.65), -1, 0)
    return int(((b > red + 0.25) & (b > green + 0.15)).sum())


def run_cell(browser):
    """Press the button that runs the first cell; a kernel that is not yet connected overhears it."""
    while not browser.run("/[*1]/.test(document.querySelector('.jp-Cell .jp-InputPrompt').innerText)"):
        browser.click("document.querySelector('.jp-Cell .cm-content')")
        browser.click("document.querySelector('.jp-NotebookPanel-toolbar [data-jp-item-name=run] jp-button')")
        time.sleep(2.0)


def test_viewer(browser, viewer):
    """Objects are drawn in 3D; the slider, the list and the switches change what is seen."""
    browser.open(viewer.url)
    browser.until(lambda: blue(browser) > 500, "the ball is seen")
    said = "document.body.innerText"
    assert browser.run(f"{said}.includes('doubtful') && {said}.includes('1: best')")

    # The slider, by the keyboard: the first step has no ball.
    browser.run("document.querySelector('[role=slider]').focus()")
    browser.press("ArrowLeft", 37)
    browser.until_true(f"{said}.includes('birth, loss 0.5')")
    browser.until(lambda: blue(browser) == 0, "the ball is gone")
    browser.press("ArrowRight", 39)
    browser.until(lambda: blue(browser) > 500, "the ball is back")

    # The list, by the mouse.
    before = seen(browser, 0.65)
    browser.click(
        "[...document.querySelectorAll('input[role=combobox]')].find(e => e.value.startsWith('1:'))"
    )
    option = "[...document.querySelectorAll('[role=option]')].find(e => e.innerText.startsWith('2:'))"
    browser.until_true(f"!!({option}?.offsetParent)")
    browser.click(option)
    browser.until_true(f"{said}.includes('Hypothesis 2: moved')")
    browser.until(lambda: np.abs(seen(browser, 0.65) - before).max() > 0.3, "the objects have moved")

    # A switch: the ball is hidden.
    label = "[...document.querySelectorAll('label')].find(e => e.innerText.trim() === 'ball')"
    browser.click(f"document.getElementById({label}.htmlFor)")
    browser.until(lambda: blue(browser) == 0, "the ball is hidden")
    assert viewer.shown == 1


def test_explorer(browser, lab):
    """The cell is run by the mouse, a slider moved by the keyboard; Python draws, the page shows it."""
    browser.open(f"{lab}doc/tree/explore.ipynb")
    browser.until_true("document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'")
    run_cell(browser)
    images = "[...document.querySelectorAll('.jp-OutputArea img.widget-image')]"
    browser.until_true(f"{images}.length === 3 && {images}.every(i => i.naturalWidth > 0)")

    caption = "document.querySelector('.jp-OutputArea').innerText.match(/loss [^,]+/)[0]"
    before, loss = seen(browser), browser.run(caption)
    slider = "[...document.querySelectorAll('.widget-tab .noUi-handle')].find(e => e.offsetParent)"
    value = browser.run(f"{slider}.getAttribute('aria-valuenow')")
    browser.run(f"{slider}.focus()")
    for _ in range(10):
        browser.press("ArrowRight", 39)
    browser.until(lambda: browser.run(caption) != loss, "the loss has changed")
    assert browser.run(f"{slider}.getAttribute('aria-valuenow')") != value
    browser.until(lambda: np.abs(seen(browser) - before).max(-1).sum() > 1000, "the picture has changed")

    # A strategy that is asked on demand answers, and its arrows appear.
    browser.click("[...document.querySelectorAll('.widget-checkbox input')].at(-1)")
    browser.until_true("document.querySelector('.jp-OutputArea').innerText.includes('press Ask')")
    browser.click(
        "[...document.querySelectorAll('.jp-OutputArea button')].find(e => /Ask/.test(e.innerText))"
    )
    browser.until_true(
        "document.querySelector('.jp-OutputArea').innerText.match(/score\\s+\\d+ ms/) !== null"
    )
