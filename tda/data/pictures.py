"""Picture files of every kind as 8-bit pixels: the only place that decodes one.

What is kept: 8 bits a channel. Grey of 16 bits is divided by 257, of 12 bits by 4095 / 255, the same for every picture; 16-bit
colours lose their lower byte. Transparent parts show white, the page on which a person sees them, never the colour hidden
under them. The camera's note on rotation (EXIF) is followed. Colours become grey by ITU-R 601 luma; CMYK becomes RGB without a
colour profile, and profiles of RGB are ignored. What has no agreed black and white (floating-point numbers, 32-bit and signed
integers) or holds several pictures (animations, stacks) is refused.
"""

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tda.system.errors import UserError
from tda.system.files import reading

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".avif", ".jp2", ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
# Pillow reads other formats too, one of them (EPS) by starting a program.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000", "PPM")

_DARK = 4096
"""16-bit pictures that are all below this become almost black: their camera has 12 bits."""
_NO_WHITE = "of which nobody can say which is black and which is white"
_REFUSED = {
    "I": (f"32-bit or signed integers, {_NO_WHITE}", "save it with 8 or 16 bits"),
    "F": (f"floating-point numbers, {_NO_WHITE}", "save it with 8 or 16 bits"),
    "LAB": ("colours as LAB", "save it as RGB"),
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SUBFILE = 258, 262, 254
_WHITE_IS_ZERO, _REDUCED = 0, 1


def decoded(sources: Iterable[Path | bytes], names: Sequence[str], channels: int, size: int, crop: bool = False) -> np.ndarray:
    """Pictures as (n, size, size, channels) uint8, brought to size bilinearly.

    sources: files, or their contents; names: of the sources, for messages; channels: 1 or 3; crop: scale the shorter side to
    `size` and keep the middle of the longer one, instead of scaling each side to `size`.
    Raises UserError, naming the picture, if it cannot be read or decoded, or is of a kind that the head of this file refuses.
    """
    found, brightest = [], []
    for source, name in zip(sources, names, strict=True):
        image, bright = _decoded(source, name)
        brightest.append(bright)
        image = _brought_to_size(image.convert("L" if channels == 1 else "RGB"), size, crop)
        found.append(np.asarray(image).reshape(size, size, channels))
    if len(brightest) > 1 and all(bright is not None and bright < _DARK for bright in brightest):
        raise UserError(
            f"the 16-bit pictures {names[0]} to {names[-1]} hold no value above {max(brightest)} of 65535, so that in 8 bits "
            f"they would be almost black; if their camera has 12 bits, multiply their values by 16"
        )
    return np.stack(found)


def _decoded(source: Path | bytes, name: str) -> tuple["Image", int | None]:
    """A picture of 8 bits, upright, without transparency, and its brightest value if it had 16 bits."""
    from PIL.Image import DecompressionBombError

    try:
        with warnings.catch_warnings():
            # Of damaged notes beside the pixels, and of sizes that are read all the same.
            warnings.simplefilter("ignore")
            if isinstance(source, bytes):
                return _plain(io.BytesIO(source), name)
            with reading(source), open(source, "rb") as file:
                return _plain(file, name)
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise UserError(f"picture {name} is missing; put it back") from error
    except DecompressionBombError as error:
        raise UserError(f"picture {name} has more than 178 million pixels; scale it down") from error
    except Exception as error:  # Pillow's decoders raise what they like
        raise UserError(f"picture {name} cannot be decoded; mend or remove it") from error


def _plain(file: io.IOBase, name: str) -> tuple["Image", int | None]:
    from PIL import Image

    Image.init()
    with Image.open(file, formats=[form for form in _FORMATS if form in Image.OPEN]) as image:
        _refuse_several(image, name)
        # Pillow forgets some of what a file says of itself as it loads the pixels.
        bits, zero_is_white = _tiff_tag(image, _BITS_PER_SAMPLE) or 16, _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
        image.load()
        upright, bright = _upright(image), None
        transparent = image.info.get("transparency")
        if upright.mode.startswith("I;16") or (upright.mode == "I" and image.format == "PPM"):
            values = np.asarray(upright).astype(np.int64)
            bright = int(values.max()) if bits == 16 else None
            upright = Image.fromarray(_eight_bits(values, 2**bits - 1, zero_is_white, transparent))
        elif upright.mode in _REFUSED:
            held, mend = _REFUSED[upright.mode]
            raise UserError(f"picture {name} holds {held}; {mend}")
        elif transparent is not None or upright.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
            upright = _on_white(upright, transparent)
        return upright, bright


def _refuse_several(image: "Image", name: str) -> None:
    """Raise UserError for an animation or a stack; a preview beside the picture, as phones and TIFF files keep, is none."""
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":
        return
    others = []
    for number in range(1, count):
        image.seek(number)
        others.append(bool((_tiff_tag(image, _SUBFILE) or 0) & _REDUCED))
    if not all(others):
        raise UserError(f"picture {name} holds {count} pictures, an animation or a stack; save the one that is meant")
    image.seek(0)


def _tiff_tag(image: "Image", tag: int) -> int | None:
    """A tag's first number in a TIFF file; None if there is none, and in files of other formats."""
    if image.format != "TIFF":
        return None
    value = image.tag_v2.get(tag)
    return value[0] if isinstance(value, tuple) else value


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged note on rotation spoils no pixel
        return image


def _eight_bits(values: np.ndarray, white: int, zero_is_white: bool, transparent: int | None) -> np.ndarray:
    """Grey values of 0 to `white` scaled to 0 to 255."""
    scaled = np.rint(values * (255 / white)).clip(0, 255).astype(np.uint8)
    scaled = 255 - scaled if zero_is_white else scaled
    return scaled if transparent is None else np.where(values == transparent, np.uint8(255), scaled)


def _on_white(image: "Image", transparent: object) -> "Image":
    from PIL import Image

    if isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    layer = image.convert("LA") if image.mode == "La" else image
    layer = layer.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _brought_to_size(image: "Image", size: int, crop: bool) -> "Image":
    """Pillow's bilinear filter averages over what it shrinks; it draws nothing at random."""
    target = (size, size)
    if crop:
        shorter = min(image.size)
        target = tuple(size if side == shorter else int(size * side / shorter) for side in image.size)
    if image.size != target:
        image = image.resize(target, resample=2)
    if not crop:
        return image
    left, top = (int(round((side - size) / 2.0)) for side in image.size)
    return image.crop((left, top, left + size, top + size))
