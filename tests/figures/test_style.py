"""One look for all figures: lines that can be told apart, letters that stay letters, nothing left behind in the process."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from tda.figures.saving import save_figure
from tda.figures.style import lines_of, styled


def test_no_two_lines_of_a_figure_look_alike():
    lines = lines_of([f"method {number}" for number in range(35)])
    assert len({tuple(line.values()) for line in lines.values()}) == 35


def test_the_first_lines_of_a_figure_can_be_told_apart_without_colours():
    lines = lines_of([f"method {number}" for number in range(5)])
    assert len({line["marker"] for line in lines.values()}) == 5


def test_a_style_ends_with_its_figure():
    before = dict(matplotlib.rcParams)

    @styled()
    def size() -> float:
        return matplotlib.rcParams["axes.titlesize"]

    assert size() == size() == 9 and dict(matplotlib.rcParams) == before


def test_letters_of_a_pdf_stay_letters(tmp_path: Path):
    figure = Figure(figsize=(2, 1))
    figure.subplots().set_title("told from noise")
    save_figure(figure, tmp_path / "figure")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Type0" in content and b"/Type3" not in content
