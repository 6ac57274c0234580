"""How figures are written.

Figures are built without pyplot, whose state is global, and carry no date, so that the same numbers give the same bytes.
"""

from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from tda.system.files import write_atomically

_NO_DATE = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
_DOTS_PER_INCH = 130


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically as PNG and as PDF; path: without a suffix."""
    for suffix in _NO_DATE:
        save_picture(figure, path.with_name(path.name + suffix))


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure atomically in the one format that the path's suffix names, .png or .pdf."""
    options = {"format": path.suffix.removeprefix("."), "metadata": _NO_DATE[path.suffix], "dpi": _DOTS_PER_INCH}
    write_atomically(path, partial(figure.savefig, **options))
