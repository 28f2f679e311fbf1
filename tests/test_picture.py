"""Reading pictures and masks of every kind, the errors of bad ones, and writing."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from inverse.picture import Picture, PictureError, fitted, read_mask, read_picture, write_picture
from scenes.files import OutputError, atomic, output_folder


@pytest.fixture
def levels():
    """A 24 x 32 picture whose four quarters have known colours: red, green / blue, grey."""
    levels = np.zeros((24, 32, 3), np.uint8)
    levels[:12, :16], levels[:12, 16:], levels[12:, :16], levels[12:, 16:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (51, 51, 51),
    )
    return levels


def saved(image, path, **options):
    image.save(path, **options)
    return path


def test_rgb(tmp_path, levels):
    picture = read_picture(saved(Image.fromarray(levels), tmp_path / "a.png"))
    assert picture.alpha is None
    assert picture.rgb.dtype == torch.float32
    assert_close(picture.rgb, torch.from_numpy(levels).float() / 255)


def test_palette(tmp_path, levels):
    image = Image.fromarray(levels).quantize(4)
    assert image.mode == "P"
    assert_close(read_picture(saved(image, tmp_path / "a.png")).rgb, torch.from_numpy(levels).float() / 255)


def test_grey_of_8_16_and_1_bits(tmp_path):
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = read_picture(saved(Image.fromarray(eight), tmp_path / "8.png")).rgb
    fine = read_picture(saved(Image.fromarray(eight.astype(np.uint16) * 257), tmp_path / "16.png")).rgb
    assert grey.shape == fine.shape == (16, 16, 3)
    assert_close(grey, torch.from_numpy(eight).float()[..., None].expand(-1, -1, 3) / 255)
    assert_close(fine, grey)
    bits = read_picture(saved(Image.fromarray(eight > 127), tmp_path / "1.png")).rgb
    assert_close(bits[..., 0], torch.from_numpy(eight > 127).float())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_alpha_is_kept_apart(tmp_path, levels, name):
    alpha = np.full((24, 32), 255, np.uint8)
    alpha[:, :8] = 0
    image = Image.fromarray(np.dstack([levels, alpha]))
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    picture = read_picture(saved(image, tmp_path / name, **options))
    assert_close(picture.rgb, torch.from_numpy(levels).float() / 255)
    assert_close(picture.alpha, torch.from_numpy(alpha).float() / 255)


def test_opaque_alpha_is_none(tmp_path, levels):
    assert read_picture(saved(Image.fromarray(levels).convert("RGBA"), tmp_path / "a.png")).alpha is None


def test_transparent_palette_and_cmyk(tmp_path, levels):
    gif = Image.fromarray(levels).quantize(4)
    index = gif.getpixel((0, 0))
    picture = read_picture(saved(gif, tmp_path / "a.gif", transparency=index))
    assert picture.alpha is not None
    assert picture.alpha[0, 0] == 0
    assert picture.alpha[0, 20] == 1
    cmyk = read_picture(saved(Image.fromarray(levels).convert("CMYK"), tmp_path / "a.tif"))
    assert_close(cmyk.rgb, torch.from_numpy(levels).float() / 255, rtol=0, atol=0.01)


def test_exif_rotation(tmp_path, levels):
    """Orientation 6: the camera was turned; the file's left column is the picture's top row."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(levels).rotate(90, expand=True)
    assert stored.size == (24, 32)
    picture = read_picture(saved(stored, tmp_path / "a.png", exif=exif))
    assert_close(picture.rgb, torch.from_numpy(levels).float() / 255)


def test_rejects_what_is_no_picture(tmp_path, levels):
    text = tmp_path / "text.png"
    text.write_text("not a picture\n" * 100)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    for name, message in [
        ("missing.png", "there is no such file"),
        ("folder.png", "is a folder"),
        ("text.png", "not a picture in a known format"),
        ("empty.png", "not a picture in a known format"),
    ]:
        with pytest.raises(PictureError, match=message) as error:
            read_picture(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.gif"])
def test_rejects_truncated(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match="damaged or incomplete") as error:
        read_picture(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 1), "1x1 pixels are too few; at least 16 a side"),
        ((200, 15), "200x15 pixels are too few"),
        ((8193, 16), "8193x16 pixels are too many; at most 8192 a side"),
        ((20000, 20000), "too large; at most 8192 pixels a side"),
    ],
)
def test_rejects_sizes_from_the_header(tmp_path, size, message, monkeypatch):
    """The pixels of a picture of the wrong size are never decoded."""
    path = saved(Image.new("1", size), tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(PictureError, match=message):
        read_picture(path)


def test_rejects_floating_point(tmp_path):
    with pytest.raises(PictureError, match="save it with 8 or 16 bits"):
        read_picture(saved(Image.new("F", (16, 16)), tmp_path / "a.tif"))


def test_mask(tmp_path, levels):
    mask = np.zeros((24, 32), bool)
    mask[3:9, 5:20] = True
    path = saved(Image.fromarray(mask), tmp_path / "mask.png")
    assert_close(read_mask(path, (24, 32)), torch.from_numpy(mask))
    alpha = Image.fromarray(np.dstack([levels, mask.astype(np.uint8) * 255]))
    assert_close(read_mask(saved(alpha, tmp_path / "alpha.png"), (24, 32)), torch.from_numpy(mask))
    with pytest.raises(PictureError, match="the mask has 32x24 pixels, the picture 64x64"):
        read_mask(path, (64, 64))
    with pytest.raises(PictureError, match="black everywhere"):
        read_mask(saved(Image.new("L", (32, 24)), tmp_path / "black.png"), (24, 32))


def test_write_then_read(tmp_path, levels):
    rgb = torch.from_numpy(levels).float() / 255
    write_picture(tmp_path / "a.png", rgb)
    assert_close(read_picture(tmp_path / "a.png").rgb, rgb)
    write_picture(tmp_path / "b.png", torch.full((16, 16, 3), 7.0))
    assert read_picture(tmp_path / "b.png").rgb.max() == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_write_rejects(tmp_path):
    rgb = torch.zeros(16, 16, 3)
    with pytest.raises(PictureError, match=r"suffix '\.mesh'"):
        write_picture(tmp_path / "a.mesh", rgb)
    with pytest.raises(OutputError, match=r"cannot write .*missing/a\.png: No such file"):
        write_picture(tmp_path / "missing" / "a.png", rgb)


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_puts_a_new_file_in_the_place_of_the_old(tmp_path):
    """Whoever has the old file open goes on reading the old content."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open() as reader:
        with atomic(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_output_folder(tmp_path):
    assert output_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="file is a file, not a folder"):
            output_folder(bad)
    with pytest.raises(OutputError, match="cannot write into /proc/unrender"):
        output_folder(type(tmp_path)("/proc/unrender"))


def test_fitted_averages_linear_light():
    """A board of two greys becomes the grey of their mean light, not of their mean level."""
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    rgb = torch.where(board > 0, 0.8, 0.2)[..., None].repeat(1, 1, 3)
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[:16] = True
    small, small_mask = fitted(Picture(rgb, board.float()), 16, 16, mask=mask)
    assert_close(small.rgb, torch.full((16, 16, 3), 0.6007), rtol=0, atol=1e-3)
    assert_close(small.alpha, torch.full((16, 16), 0.5))
    assert_close(small_mask, torch.arange(16)[:, None].expand(16, 16) < 8)


def test_fitted_leaves_smaller_pictures_and_refuses_other_proportions():
    picture = Picture(torch.rand(24, 32, 3))
    assert fitted(picture, 64, 48)[0] is picture
    assert fitted(picture, 16, 12)[0].rgb.shape == (12, 16, 3)
    with pytest.raises(PictureError, match="the picture is 32x24, the world's camera draws 64x64: crop"):
        fitted(picture, 64, 64)
