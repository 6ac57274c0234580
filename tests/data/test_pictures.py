"""Picture files of every mode become the 8 bits that a researcher expects, or are refused in a sentence that names them."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tda.data.pictures import decoded
from tda.system.errors import UserError

RAMP = np.linspace(0, 65535, 28 * 28).reshape(28, 28).astype(np.uint16)
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def read(content: bytes, channels: int = 1, size: int = 16) -> np.ndarray:
    """One picture (size, size) or (size, size, 3)."""
    (pixels,) = decoded([content], ["a.png"], channels, size)
    assert pixels.dtype == np.uint8 and pixels.shape == (size, size, channels)
    return pixels[..., 0] if channels == 1 else pixels


def tiff(values: np.ndarray, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A grey TIFF file, written by hand for the kinds that Pillow does not write."""
    height, width = values.shape
    data = values.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: height}
    tags |= {279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0) + data


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG file, written by hand for 16-bit colours."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_divided_by_257(form: str):
    found = read(saved(Image.fromarray(RAMP), form), size=28)
    np.testing.assert_array_equal(found, np.rint(RAMP / 257))
    assert found.min() == 0 and found.max() == 255 and (found == 255).mean() < 0.01


def test_sixteen_bit_tiff_whose_zero_is_white_is_turned_round():
    np.testing.assert_array_equal(read(tiff(RAMP, 16, photometric=0), size=28), 255 - np.rint(RAMP / 257))
    np.testing.assert_array_equal(read(tiff(GREY, 8, photometric=0)), 255 - GREY)


def test_twelve_bit_tiff_has_4095_for_white():
    # Two values of 12 bits fill three bytes: 0x000 and 0xFFF in every pair of columns.
    packed = np.frombuffer(bytes([0x00, 0x0F, 0xFF]) * (16 * 8), dtype=np.uint8).reshape(16, 24)
    content = tiff(packed, 12).replace(struct.pack("<HHII", 256, 4, 1, 24), struct.pack("<HHII", 256, 4, 1, 16))
    np.testing.assert_array_equal(read(content), np.tile([0, 255], (16, 8)))


def test_sixteen_bit_colours_lose_their_lower_byte():
    colour = struct.pack(">HHH", 0xFF80, 0x1234, 0x0080)
    found = read(png(2, 2, 16, 2, (b"\0" + colour * 2) * 2), channels=3, size=2)
    assert (found == [0xFF, 0x12, 0x00]).all()


def test_pictures_of_a_twelve_bit_camera_are_refused_instead_of_almost_black():
    dark = [saved(Image.fromarray(RAMP // 16)), saved(Image.fromarray(RAMP // 17))]
    with pytest.raises(UserError, match="a to b hold no value above 4095 of 65535.*multiply their values by 16"):
        decoded(dark, ["a", "b"], 1, 28)
    # A single dark one, or dark ones among others, may be what was photographed.
    assert decoded(dark[:1], ["a"], 1, 28).max() == 16
    assert decoded([*dark, saved(Image.fromarray(RAMP))], ["a", "b", "c"], 1, 28).max() == 255


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P", "L", "RGB", "I;16"])
def test_transparent_parts_show_white_and_never_the_colour_under_them(mode: str):
    """The left half hides black under full transparency; the right half is opaque 60."""
    values = np.full((16, 16), 60, np.uint8)
    values[:, :8] = 0
    alpha = Image.fromarray(np.where(values == 0, np.uint8(0), np.uint8(255)))
    grey, form, options = Image.fromarray(values), "PNG", {}
    if mode == "I;16":
        image, options = Image.fromarray(values.astype(np.uint16) * 257), {"transparency": 0}
    elif mode in ("L", "RGB"):
        image, options = grey.convert(mode), {"transparency": 0 if mode == "L" else (0, 0, 0)}
    elif mode in ("P", "PA"):
        image = Image.new("P", (16, 16))
        image.putpalette([0, 0, 0, 60, 60, 60])
        image.putdata((values > 0).astype(int).flatten().tolist())
        options = {"transparency": b"\x00\xff"}
        if mode == "PA":
            image.putalpha(alpha)
            form, options = "TIFF", {}
    else:
        image = grey.convert("RGB" if mode == "RGBA" else "L")
        image.putalpha(alpha)
    assert image.mode == mode
    for channels in (1, 3):
        found = read(saved(image, form, **options), channels)
        assert (found[:, :8] == 255).all() and (found[:, 8:] == 60).all()


def test_half_transparent_is_mixed_with_white():
    image = Image.new("RGBA", (16, 16), (0, 100, 200, 51))
    found = read(saved(image), channels=3)
    assert (abs(found.astype(int) - [204, 224, 244]) <= 1).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF", "BMP"])
def test_palettes_show_their_colours(form: str):
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([9, 9, 9, 200, 30, 40])
    assert (read(saved(palette, form), channels=3) == [200, 30, 40]).all()
    assert (read(saved(palette, form)) == np.asarray(Image.new("RGB", (16, 16), (200, 30, 40)).convert("L"))).all()


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_becomes_rgb(form: str):
    found = read(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), form), channels=3)
    assert (abs(found.astype(int) - [255, 0, 0]) <= 3).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_plain_pictures_are_kept_bit_for_bit(form: str):
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS), form, **options), channels=3), COLOURS)
    if form != "WEBP":
        np.testing.assert_array_equal(read(saved(Image.fromarray(GREY), form)), GREY)


def test_one_bit_is_black_and_white():
    found = read(saved(Image.fromarray(GREY > 127)))
    np.testing.assert_array_equal(found, np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_the_camera_s_note_on_rotation_is_followed(form: str):
    """Orientation 6 is a picture whose right side is up: it is turned clockwise."""
    notes = Image.Exif()
    notes[0x0112] = 6
    lying = np.zeros((16, 16), np.uint8)
    lying[:8, :8] = 255
    found = read(saved(Image.fromarray(lying), form, exif=notes))
    expected = np.rot90(lying, -1)
    assert abs(found.astype(int) - expected).max() <= 8


def test_rotation_of_sixteen_bits():
    notes = Image.Exif()
    notes[0x0112] = 6
    found = read(saved(Image.fromarray(RAMP), exif=notes), size=28)
    np.testing.assert_array_equal(found, np.rot90(np.rint(RAMP / 257), -1))


def test_damaged_notes_beside_the_pixels_spoil_nothing():
    content = saved(Image.fromarray(GREY), "PNG", exif=b"Exif\0\0no notes at all")
    np.testing.assert_array_equal(read(content), GREY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "a.png holds floating-point numbers"),
        (lambda: saved(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "a.png holds 32-bit or signed integers"),
        (lambda: tiff(RAMP.astype(np.int16), 16, sample_format=2), "a.png holds 32-bit or signed integers"),
        (lambda: tiff(RAMP.astype(np.uint32), 32), "a.png holds 32-bit or signed integers"),
        (lambda: saved(Image.new("LAB", (4, 4)), "TIFF"), "a.png holds colours as LAB; save it as RGB"),
        (lambda: b"no picture", "a.png cannot be decoded; mend or remove it"),
        (lambda: b"", "a.png cannot be decoded"),
        (lambda: saved(Image.fromarray(COLOURS))[:-60], "a.png cannot be decoded"),
        (lambda: saved(Image.new("L", (64, 64)), "JPEG")[:200], "a.png cannot be decoded"),
        # A format that Pillow would read by starting another program.
        (lambda: saved(Image.new("L", (4, 4)), "EPS"), "a.png cannot be decoded"),
    ],
    ids=["float", "int32", "int16", "uint32", "LAB", "text", "empty", "cut PNG", "cut JPEG", "EPS"],
)
def test_what_cannot_become_eight_bits_is_refused_by_name(content, words: str):
    with pytest.raises(UserError, match=words):
        read(content())


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_stacks_are_refused(form: str):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    content = saved(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="a.png holds 3 pictures, an animation or a stack; save the one that is meant"):
        read(content)


def test_previews_beside_the_picture_are_left_alone():
    """Phones keep a second picture in a JPEG file (MPO), TIFF files a smaller one marked as such."""
    plain = Image.new("RGB", (16, 16), (200, 100, 50))
    assert (
        abs(
            read(saved(plain, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), channels=3) - [200.0, 100, 50]
        ).max()
        < 5
    )
    previews = {"append_images": [Image.new("RGB", (8, 8))], "tiffinfo": {254: 1}}
    content = saved(Image.fromarray(COLOURS), "TIFF", save_all=True, **previews)
    np.testing.assert_array_equal(read(content, channels=3), COLOURS)


def test_pictures_beyond_pillow_s_limit_are_refused_and_those_below_it_are_not(monkeypatch: pytest.MonkeyPatch):
    content = saved(Image.fromarray(GREY))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 256 pixels only cause a warning of Pillow's
    np.testing.assert_array_equal(read(content), GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="a.png has more than 178 million pixels; scale it down"):
        read(content)


def test_each_side_is_brought_to_size_or_the_middle_is_kept(tmp_path: Path):
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 18:42] = 200
    path = tmp_path / "a.png"
    Image.fromarray(wide).save(path)
    (squeezed,), (cropped,) = (decoded([path], ["a"], 1, 10, crop) for crop in (False, True))
    assert (cropped == 200).all() and squeezed[:, [0, -1]].max() == 0 and squeezed[:, 4:6].min() == 200


def test_cropping_is_torchvision_s():
    from torchvision import transforms

    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (37, 61, 3), dtype=np.uint8))
    for size in (16, 31, 64):
        (found,) = decoded([saved(image)], ["a"], 3, size, crop=True)
        expected = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])(image)
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, words in {"pipe.png": "is a pipe", "folder.png": "a folder stands", "absent.png": "is missing"}.items():
        with pytest.raises(UserError, match=words):
            decoded([tmp_path / name], [name], 1, 8)


def test_refused_file_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(GREY)))

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match="cannot read .*a.png: permission is denied; mend that"):
        decoded([tmp_path / "a.png"], ["a.png"], 1, 8)
