"""What all figures look like: letters, lines, and colours that people with any colour vision tell apart (Okabe and Ito)."""

from collections.abc import Sequence

from cycler import cycler
from matplotlib import rc_context

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222",
)  # fmt: skip
GREY = "#777777"
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
_MARKERS = ("o", "s", "^", "D", "v")
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "grid.linewidth": 0.4,
    "grid.color": "#cccccc",
    "lines.linewidth": 1.4,
    "axes.prop_cycle": cycler(color=_COLOURS),
    # Letters of a PDF stay letters, in a font that editors of journals take.
    "pdf.fonttype": 42,
    # A PDF's pictures stay apart. Laid together to one of a whole page, they take four times as long as all else on it.
    "image.composite_image": False,
}


def styled():
    """A context, and a decorator of functions that draw or write figures, in which they have this look."""
    return rc_context(_STYLE)


def lines_of(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """A colour and a marker for each name: no two of up to 35 have both alike, and no two of five that follow have either."""
    return {
        name: {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
        for number, name in enumerate(names)
    }
