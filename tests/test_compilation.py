"""Compiling kernels: said once, from an empty cache in two processes at a time, and failures in words."""

import os
import subprocess
import sys

import pytest
import torch
import warp as wp

from render import compilation
from render.blur import gaussian_blur
from render.blur.kernels import recursion
from render.blur.rows import recursion_in_rows
from render.compilation import KernelError, load, load_unique

BLUR = """
import torch
from render.blur import gaussian_blur
white = torch.ones(1, 8, 8, 3)
print(float(gaussian_blur(white, 3.0).sum() + gaussian_blur(white, 1.0).sum()))
"""


@pytest.fixture
def forgetful():
    """As if nothing had been loaded in this process, before the test and after it."""
    caches = (load, load_unique, compilation._announce)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.slow
def test_two_processes_compile_at_once(tmp_path):
    """Both begin with an empty cache, say so once, and draw the same; a third finds what they compiled."""
    settings = {**os.environ, "WARP_CACHE_PATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def start():
        command = [sys.executable, "-c", BLUR]
        return subprocess.Popen(
            command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    said = [p.communicate(timeout=300) for p in [start(), start()]]
    want = float(
        gaussian_blur(torch.ones(1, 8, 8, 3), 3.0).sum() + gaussian_blur(torch.ones(1, 8, 8, 3), 1.0).sum()
    )
    for out, error in said:
        assert float(out) == pytest.approx(want, rel=1e-6), error
        assert error.splitlines() == ["unrender: compiling render.blur for cpu, once; this takes seconds"]
    out, error = start().communicate(timeout=300)
    assert float(out) == pytest.approx(want, rel=1e-6)
    assert error == ""


def test_it_is_said_once(forgetful, monkeypatch, capsys):
    """Also where one subject has several sets of kernels; nothing is said of what the cache has."""
    monkeypatch.setattr(compilation, "_cached", lambda *_: False)
    for lanes in (1, 3):
        k = recursion(wp.float32, 1, lanes)
        load_unique(recursion.__module__, (k.recursive,), "cpu")
    assert capsys.readouterr().err == "unrender: compiling render.blur for cpu, once; this takes seconds\n"
    monkeypatch.setattr(compilation, "_cached", lambda *_: True)
    load("render.raster.kernels", "cpu")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("failure", [OSError("read-only file system: '/cache'"), None])
def test_failures_are_said_in_words(forgetful, monkeypatch, failure):
    """Whether Warp raises, or gives nothing back."""
    k = recursion_in_rows(wp.float32, 8, 3)

    def fail(*_, **__):
        if failure is not None:
            raise failure

    monkeypatch.setattr(k.recursive.module, "load", fail)
    reason = "read-only file system" if failure else "gave no result"
    with pytest.raises(KernelError, match=f"{reason}.*set WARP_CACHE_PATH to a folder that is"):
        gaussian_blur(torch.ones(1, 8, 8, 3), 3.0)
