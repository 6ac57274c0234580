"""Heat maps of correlations: cells, names, and what an undefined one looks like."""

import numpy as np
import pandas as pd
import pytest

from tda.figures.correlations import draw_correlations


def test_an_undefined_correlation_is_a_dash():
    matrix = pd.DataFrame([[1.0, np.nan], [np.nan, -0.001]], index=["loo", "b"], columns=["loo", "b"])
    panel = draw_correlations({"Pearson": matrix}, "agreement").axes[0]
    by_cell = {text.get_position()[::-1]: text.get_text() for text in panel.texts}
    assert by_cell == {(0.5, 0.5): "1.00", (0.5, 1.5): "–", (1.5, 0.5): "–", (1.5, 1.5): "0.00"}
    assert [label.get_text() for label in panel.get_yticklabels()] == ["LOO", "b"]


@pytest.mark.parametrize("size", [2, 5])
def test_matrices_stand_beside_each_other_on_one_scale(size: int):
    names = [f"method {number}" for number in range(size)]
    one = pd.DataFrame(np.eye(size), index=names, columns=names)
    figure = draw_correlations({"Pearson": one, "Spearman": -one}, "agreement")
    left, right, scale = figure.axes
    assert [panel.get_title() for panel in (left, right)] == ["Pearson", "Spearman"]
    np.testing.assert_array_equal(left.collections[0].get_array(), np.eye(size))
    np.testing.assert_array_equal(right.collections[0].get_array(), -np.eye(size))
    assert left.collections[0].get_clim() == right.collections[0].get_clim() == (-1, 1) == scale.get_ylim()
