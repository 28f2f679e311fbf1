"""The benchmarks run, at small sizes, and say what they are to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from benchmarks.otherpictures import KINDS, main, variants
from render.software import SoftwareEngine

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
    # a CPU draws into what it returns
    assert 19.0 < per_pixel["rasterize"] < 24.0
    assert 4 * 3 + 32 - 4.0 < per_pixel["soft_rasterize"] < 4 * 3 + 32 + 8.0


OWN = [kind for kind in KINDS if kind != "mitsuba"]


@pytest.fixture(scope="module")
def others(table):
    """Two scenes, their frame, and their pictures of every kind that needs no other engine."""
    scene = table.sample(2, generator=torch.Generator().manual_seed(4))
    with SoftwareEngine(table, size=(64, 64)) as engine:
        frame = engine.render(scene)
    return scene, frame, variants(table, scene, 1, kinds=OWN, engine="software", size=(64, 64))


def test_other_pictures_are_the_same_again_and_each_by_itself(table, others):
    scene, frame, drawn = others
    assert list(drawn) == OWN
    assert_close(drawn["clean"], frame.rgb, rtol=0, atol=0.5 / 255 + 1e-6)
    some = ["smooth background", "noise 0.08"]
    again = variants(table, scene, 1, kinds=some, engine="software", size=(64, 64))
    other = variants(table, scene, 2, kinds=some, engine="software", size=(64, 64))
    for kind in some:
        assert torch.equal(again[kind], drawn[kind])
        assert not torch.equal(other[kind], drawn[kind])
        assert drawn[kind].shape == frame.rgb.shape


def test_noise_blur_and_jpeg_change_pictures_by_what_they_say(others):
    _, _, drawn = others
    clean = drawn["clean"]
    inside = (clean > 0.3) & (clean < 0.7)  # where 0.08 are seldom cut off
    for sigma in (0.03, 0.08):
        assert (drawn[f"noise {sigma}"] - clean)[inside].std() == pytest.approx(sigma, rel=0.05)
    # Nothing is added at the border: a mean of pixels stays within their extremes.
    least = clean.amin((1, 2))
    assert (drawn["blur 1 px"].amin((1, 2)) >= least - 1e-6).all()
    steps = {kind: (pictures[:, 1:] - pictures[:, :-1]).abs().mean() for kind, pictures in drawn.items()}
    assert steps["blur 1 px"] < 0.8 * steps["clean"]
    error = {kind: (drawn[kind] - clean).square().mean().sqrt() for kind in ("jpeg 50", "jpeg 30")}
    assert 0.003 < error["jpeg 50"] < error["jpeg 30"] < 0.05


def test_other_backgrounds_leave_objects_as_they_are(others):
    """A pixel all of whose neighbours show objects is unchanged, but for other samples; the table is gone."""
    scene, frame, drawn = others
    of_object = ((frame.instance_id >= 0) & (frame.instance_id < scene.slots)).float()[:, None]
    inside = -torch.nn.functional.max_pool2d(-of_object, 3, 1, 1)[:, 0] > 0
    outside = torch.nn.functional.max_pool2d(of_object, 3, 1, 1)[:, 0] == 0
    assert inside.any()
    for kind in ("flat background", "smooth background"):
        assert (drawn[kind] - drawn["clean"])[inside].abs().mean() < 0.02
        assert (drawn[kind] - drawn["clean"])[outside].abs().mean() > 0.1
    for picture, plain in zip(drawn["flat background"], outside, strict=True):
        assert_close(picture[plain], picture[plain][:1].expand(int(plain.sum()), 3))
    assert drawn["smooth background"][outside].std() > 0.1


def test_pictures_of_another_engine(table):
    """Mitsuba's light is another one, but the picture is of the same scene."""
    pytest.importorskip("mitsuba")
    scene = table.sample(1, generator=torch.Generator().manual_seed(4))
    kinds = ["mitsuba", "clean"]
    drawn = variants(table, scene, 0, kinds=kinds, engine="software", size=(32, 32))
    assert list(drawn) == kinds
    difference = (drawn["mitsuba"] - drawn["clean"]).abs().mean()
    assert 0.004 < difference < 0.08


def test_kinds_of_pictures_that_do_not_exist(table):
    with pytest.raises(ValueError, match="no pictures of the kind 'fog', only clean, mitsuba, noise"):
        variants(table, table.empty(), 0, kinds=["fog"])


def test_sheet_of_other_pictures(tmp_path):
    kinds = ["clean", "flat background"]
    path = tmp_path / "sheet.png"
    main(["cube", "--count", "2", "--engine", "software", "--out", str(path), "--kinds", *kinds])
    assert path.read_bytes().startswith(b"\x89PNG")
