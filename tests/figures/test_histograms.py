"""Histograms of p-values: what a bar counts, and what a title says."""

import numpy as np
import pytest

from tda.figures.histograms import draw_histograms
from tda.statistics.pair_statistics import PairStatistics


def statistics_of(p_value: np.ndarray, method: str = "loo") -> PairStatistics:
    return PairStatistics(method, 4, 5, *[np.ones_like(p_value)] * 3, p_value, p_value, p_value)


def test_a_histogram_shows_shares_of_pairs():
    figure = draw_histograms([statistics_of(np.array([[0.01, 0.02, 0.5, 0.97]]))])
    (panel,) = figure.axes
    heights = [bar.get_height() for bar in panel.patches]
    assert heights[0] == 0.5 and heights[10] == 0.25 and heights[19] == 0.25 and sum(heights) == 1
    assert panel.get_title() == "LOO\n50.0% below 0.05"
    assert figure.get_supxlabel() == "p-value of the t-test over seeds (4 seeds, 5 checkpoints)"
    (line,) = panel.lines
    assert set(line.get_ydata()) == {0.05} and line.get_label() == "pure noise"


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (9, (3, 3))])
def test_every_method_has_a_panel_and_an_empty_place_is_not_drawn(count: int, shape: tuple[int, int]):
    methods = [statistics_of(np.full((2, 3), 0.5), f"method {number}") for number in range(count)]
    panels = draw_histograms(methods).axes
    assert len(panels) == shape[0] * shape[1]
    titles = [panel.get_title().splitlines()[0] for panel in panels if panel.get_visible()]
    assert titles == [method.method for method in methods]
