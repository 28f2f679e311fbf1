"""The benchmarks run, at small sizes, and say what they are to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def run(*arguments, **more):
    """What a benchmark prints."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_gpu_table_on_a_cpu():
    """All rows have a time, launches and a floor that is below the time."""
    out = run("benchmarks/gpu.py", "--device", "cpu", "--seconds", "0.02")
    assert "It says nothing of a GPU" in out
    assert "failed" not in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("edge", "soft", "layers", "blur"))]
    assert len(rows) == 3 * 8 + 4
    for _, _, _, _, ms, graph, launches, floor, _ in rows:
        assert graph == "-"
        assert 4 <= int(launches) <= 16
        assert 0.0 < float(floor) < float(ms)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_table_says_that_there_is_no_gpu():
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "PyTorch finds no CUDA device here; --device cpu tests this script without one"
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the count of a process's memory is Linux's")
def test_memory_of_one_size():
    """Two pictures that differ in pixels alone: the difference is what the table calls bytes per pixel."""
    found = []
    for pixels in (256, 512):
        size = {"pixels": pixels, "subdivisions": 2, "apart": False, "only": ["rasterize", "soft_rasterize"]}
        # freed memory goes back at once, as in the benchmark's own children
        allocator = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        out = run("benchmarks/memory.py", "--child", json.dumps(size), **allocator)
        found.append(json.loads(out.splitlines()[-1]))
    small, large = found
    per_pixel = {k: (large[k] - small[k]) / (large["pixels"] - small["pixels"]) for k in large if k in small}
    # keys of pixels that show nothing are never written
    assert 20.0 < per_pixel["rasterize"] < 32.0
    assert 4 * 3 + 32 - 4.0 < per_pixel["soft_rasterize"] < 4 * 3 + 32 + 8.0
