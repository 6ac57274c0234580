"""Examples as a page shows them: all pictures of a split in one image, and its texts."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np

from tda.data.kinds import shown_inputs
from tda.data.splits import Split
from tda.data.tasks import Task

_LARGEST_SIDE = 64
"""Pixels of a thumbnail's longer side; larger pictures are scaled down."""
_LOSSLESS = 1_500_000
"""Bytes of a lossless sheet up to which it stays one."""
_QUALITIES = (85, 60, 40)
_LONGEST_TEXT = 800
MOST_SHOWN = 3000
"""Examples of a split that the page shows; the others are named by index and label alone."""


@dataclass(frozen=True)
class Sheet:
    """Pictures side by side in one image, cells of the same size, as many in a row as `columns`.

    url: a data URL; cell: width and height of one in pixels; smooth: whether scaling up should blur (photographs).
    """

    url: str
    columns: int
    rows: int
    cell: tuple[int, int]
    smooth: bool


@dataclass(frozen=True)
class Shown:
    """What the page shows of a split.

    positions: of the shown examples, ascending; sheet: their pictures in this order, None for texts alone; texts: in the same
    order, None for pictures alone.
    """

    positions: np.ndarray
    sheet: Sheet | None
    texts: list[str] | None


def shown_examples(task: Task, split: Split, positions: np.ndarray, sheet_budget: int = 2_500_000) -> Shown:
    """Pictures and texts of the examples at these positions; a sheet that is too large for the budget is compressed more."""
    found = [shown_inputs(task.kind, split.inputs, int(position)) for position in positions]
    pictures = [picture for picture, _ in found if picture is not None]
    texts = [text for _, text in found if text is not None]
    sheet = _sheet(pictures, sheet_budget) if pictures else None
    return Shown(positions, sheet, [shortened(text) for text in texts] if texts else None)


def shortened(text: str) -> str:
    """A text of at most 800 characters."""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 2] + " …"


def _sheet(pictures: list[np.ndarray], budget: int) -> Sheet:
    from PIL import Image

    thumbnails = [_thumbnail(picture) for picture in pictures]
    width, height = (max(sizes) for sizes in zip(*(thumbnail.size for thumbnail in thumbnails), strict=True))
    columns = min(len(thumbnails), max(1, math.isqrt(len(thumbnails) * height // width) + 1))
    rows = math.ceil(len(thumbnails) / columns)
    grey = all(thumbnail.mode == "L" for thumbnail in thumbnails)
    whole = Image.new("L" if grey else "RGB", (columns * width, rows * height))
    for place, thumbnail in enumerate(thumbnails):
        left, top = place % columns * width, place // columns * height
        whole.paste(thumbnail, (left + (width - thumbnail.width) // 2, top + (height - thumbnail.height) // 2))
    kind, content = _encoded(whole, budget)
    url = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Sheet(url, columns, rows, (width, height), smooth=max(pictures[0].shape[:2]) > _LARGEST_SIDE)


def _thumbnail(picture: np.ndarray):
    from PIL import Image

    image = Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
    if max(image.size) > _LARGEST_SIDE:
        image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def _encoded(image, budget: int) -> tuple[str, bytes]:
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    if content.tell() <= min(_LOSSLESS, budget):
        return "png", content.getvalue()
    for quality in _QUALITIES:
        content = io.BytesIO()
        image.convert("RGB").save(content, format="JPEG", quality=quality)
        if content.tell() <= budget:
            break
    return "jpeg", content.getvalue()
