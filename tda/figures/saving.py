"""How figures are written.

Figures are built without pyplot, whose state is global, and carry no date, so that the same numbers give the same bytes.
"""

from functools import cache, partial
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from tda.figures.style import styled
from tda.system.files import write_atomically

_NO_DATE = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
_DOTS_PER_INCH = 130


@cache
def _letters() -> frozenset[str]:
    font = FT2Font(findfont(FontProperties()))
    return frozenset(map(chr, font.get_charmap())) | {"\n"}


def drawable(text: str) -> str:
    """A text with a question mark for each letter that the figures' font lacks."""
    return "".join(letter if letter in _letters() else "?" for letter in text)


def shortened_file(name: str, longest: int) -> str:
    """A file's name in at most `longest` letters: without its first folders, or the end of it where that is still too long."""
    if len(name) > longest:
        folders = [place for place in range(len(name)) if name[place] == "/" and len(name) - place < longest]
        name = f"…{name[folders[0] :] if folders else name[1 - longest :]}"
    return drawable(name)


@styled()
def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically as PNG and as PDF; path: without a suffix."""
    if figure.get_layout_engine() is not None:
        # The layout is found once for both formats; each would find it anew, which takes longer than drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    for suffix in _NO_DATE:
        save_picture(figure, path.with_name(path.name + suffix))


@styled()
def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure atomically in the one format that the path's suffix names, .png or .pdf."""
    options = {"format": path.suffix.removeprefix("."), "metadata": _NO_DATE[path.suffix], "dpi": _DOTS_PER_INCH}
    write_atomically(path, partial(figure.savefig, **options))
