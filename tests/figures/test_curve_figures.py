"""Figures of tables: every row is a point, with its interval, at its place."""

import numpy as np
import pandas as pd
import pytest
import torch

from tda.features.truth_test import SHARES
from tda.figures.left_out_lds import draw_left_out
from tda.figures.linear_datamodeling_score import draw_lds
from tda.figures.map_truth import draw_truth
from tda.figures.metasmoothness import draw_metasmoothness
from tda.figures.reliability import draw_reliability
from tda.figures.removal import draw_removal
from tda.figures.shortcut import draw_merits


def points_of(panel) -> dict[str, list[list[float]]]:
    """Label of each curve with error bars -> its points' coordinates, as drawn."""
    return {bars.get_label(): np.asarray(bars[0].get_xydata()).tolist() for bars in panel.containers}


def interval_ends(bars) -> list[list[float]]:
    """Both ends of each interval of a curve, along its own axis."""
    (lines,) = bars[2]
    along = 1 if bars.has_yerr else 0
    return [segment[:, along].tolist() for segment in lines.get_segments()]


def test_lds_stands_against_seconds_with_the_ceiling_as_a_line():
    rows = [
        {"method": "trak", "members": 1, "lds": 0.4, "low": 0.3, "high": 0.45, "seconds": 2.0},
        {"method": "trak", "members": 2, "lds": 0.5, "low": 0.4, "high": 0.55, "seconds": 4.0},
        {"method": "loo", "members": 1, "lds": 0.1, "low": 0.0, "high": 0.2, "seconds": 9.0},
        {"method": "random", "members": 0, "lds": 0.01, "low": -0.1, "high": 0.1, "seconds": np.nan},
        {"method": "retraining", "members": 0, "lds": 0.8, "low": 0.7, "high": 0.85, "seconds": np.nan},
        {"method": "exact_prediction", "members": 0, "lds": 0.9, "low": 0.8, "high": 0.95, "seconds": np.nan},
    ]
    (panel,) = draw_lds(pd.DataFrame(rows)).axes
    assert points_of(panel) == {"LOO": [[9.0, 0.1]], "TRAK": [[2.0, 0.4], [4.0, 0.5]]}
    np.testing.assert_allclose(interval_ends(panel.containers[1]), [[0.3, 0.45], [0.4, 0.55]])
    (ceiling,) = [line for line in panel.lines if line.get_label() == "noise ceiling"]
    assert set(ceiling.get_ydata()) == {0.9}
    assert panel.get_xlabel() == "seconds of training and scoring" and panel.get_xscale() == "log"


@pytest.mark.parametrize("known", [np.nan, 3.0])
def test_lds_stands_against_members_where_the_time_of_a_method_is_not_known(known: float):
    rows = [
        {"method": method, "members": size, "lds": 0.4, "low": 0.3, "high": 0.5, "seconds": size * seconds}
        for method, seconds in (("trak", np.nan), ("loo", known))
        for size in (1, 2)
    ]
    figure = draw_lds(pd.DataFrame(rows))
    figure.canvas.draw()
    (panel,) = figure.axes
    assert panel.get_xlabel() == "members" and points_of(panel) == dict.fromkeys(("LOO", "TRAK"), [[1.0, 0.4], [2.0, 0.4]])


def test_forecasts_stand_against_removals_with_a_curve_for_each_experiment():
    rows = [
        {"experiment": name, "removed": removed, "agreement": 0.2 + 0.3 * number, "forecast": told}
        for number, name in enumerate(("plain", "smooth"))
        for removed, told in ((0, np.nan), (1, 0.9 - number), (8, 0.6 - number))
    ]
    table = pd.DataFrame(rows)
    table = table.assign(forecast_low=table["forecast"] - 0.2, forecast_high=table["forecast"] + 0.1)
    (panel,) = draw_metasmoothness(table).axes
    drawn = points_of(panel)
    np.testing.assert_allclose(drawn["plain (0.20)"], [[1, 0.9], [8, 0.6]])
    np.testing.assert_allclose(drawn["smooth (0.50)"], [[1, -0.1], [8, -0.4]])
    np.testing.assert_allclose(interval_ends(panel.containers[0]), [[0.7, 1.0], [0.4, 0.7]])
    assert panel.get_xscale() == "log"


def test_forecasts_of_a_single_seed_have_no_interval():
    rows = [{"experiment": "plain", "removed": removed, "agreement": 0.2, "forecast": 0.5} for removed in (0, 1, 2)]
    table = pd.DataFrame(rows).assign(forecast_low=np.nan, forecast_high=np.nan)
    (panel,) = draw_metasmoothness(table).axes
    points, caps, [bars] = panel.containers[0].lines
    assert points.get_ydata().tolist() == [0.5, 0.5]
    assert [len(bar) for bar in bars.get_segments()] == [0, 0]
    assert [np.isnan(cap.get_ydata().astype(float)).all() for cap in caps] == [True, True]


def test_reliability_has_a_point_for_every_row():
    methods, choices = ("loo", "trak"), ("all", "reliable", "others")
    pairs = [
        {"method": method, "pairs": choice, "lds": number + 0.1 * place, "low": -1.0, "high": 3.0}
        for number, method in enumerate(methods)
        for place, choice in enumerate(choices)
    ]
    tests = [
        {"method": method, "share_reliable": quarter / 4, "lds": number + quarter / 8, "low": 0.0, "high": 2.0}
        for number, method in enumerate(methods)
        for quarter in range(4)
    ]
    left, right = draw_reliability(pd.DataFrame(pairs), pd.DataFrame(tests)).axes
    for place, choice in enumerate(choices):
        expected = [[number + 0.15 * (place - 1), number + 0.1 * place] for number in range(2)]
        np.testing.assert_allclose(points_of(left)[choice], expected)
    assert [label.get_text() for label in left.get_xticklabels()] == ["LOO", "TRAK"]
    assert points_of(right) == {
        title: [[quarter / 4, number + quarter / 8] for quarter in range(4)] for number, title in enumerate(("LOO", "TRAK"))
    }
    np.testing.assert_allclose(interval_ends(right.containers[0]), [[0, 2]] * 4)


def test_truth_is_drawn_for_each_protocol_against_the_share_of_pixels():
    table = pd.DataFrame(
        {"protocol": protocol, "pixels": order, "share": share, "loss_change": sign * factor * share, "low": -2.0, "high": 2.0}
        for protocol, sign in (("keep", 1), ("delete", -1))
        for order, factor in (("map", 1.0), ("random", 0.5))
        for share in SHARES
    )
    figure = draw_truth(table)
    for panel, sign in zip(figure.axes, (1, -1), strict=True):
        by_map, random, whole = panel.lines
        for line, name, factor in ((by_map, "by the map", 1.0), (random, "at random", 0.5)):
            assert line.get_label() == name
            np.testing.assert_allclose(line.get_xdata(), 100 * np.array(SHARES))
            np.testing.assert_allclose(line.get_ydata(), sign * factor * np.array(SHARES))
        np.testing.assert_allclose(whole.get_ydata(), 0.75)


def test_removal_is_a_curve_for_each_method():
    rows = [
        {"method": method, "removed": removed, "margin_fall": fall, "low": fall - 0.1, "high": fall + 0.2}
        for method, removed, fall in (("random", 5, 0.1), ("random", 25, 0.3), ("grad_dot", 5, 1.0), ("grad_dot", 25, 2.0))
    ]
    (panel,) = draw_removal(pd.DataFrame(rows)).axes
    assert points_of(panel) == {"Grad-Dot": [[5, 1.0], [25, 2.0]], "random": [[5, 0.1], [25, 0.3]]}
    np.testing.assert_allclose(interval_ends(panel.containers[0]), [[0.9, 1.2], [1.9, 2.2]])


def test_removal_of_one_number_is_a_point_for_each_method():
    rows = [
        {"method": method, "removed": 5, "margin_fall": fall, "low": fall - 0.1, "high": fall + 0.2}
        for method, fall in (("trak", 1.0), ("random", 0.1), ("grad_dot", 0.5))
    ]
    (panel,) = draw_removal(pd.DataFrame(rows)).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["random", "Grad-Dot", "TRAK"]
    np.testing.assert_allclose(panel.containers[0].lines[0].get_xydata(), [[0.1, 0], [0.5, 1], [1.0, 2]])


def test_merits_are_points_for_single_seeds_and_for_their_mean_map():
    region = torch.zeros(4, 5, dtype=torch.bool)
    region[:2, 0] = True
    described = {"models": "with the patch", "map": "grad_cos", "training_images": "influential", "smoothed": True}
    rows = []
    for averaged, area in ((False, 0.6), (True, 0.8)):
        row = {**described, "seeds_averaged": averaged}
        for merit, value in (("area_under_curve", area), ("mass_share", area / 2), ("largest_inside", area / 4)):
            row |= {merit: value, f"{merit}_low": value - 0.1, f"{merit}_high": value + 0.1}
        rows.append(row)
    figure = draw_merits(pd.DataFrame(rows), region)
    for panel, factor, chance in zip(figure.axes, (1, 1 / 2, 1 / 4), (0.5, 0.1, 0.1), strict=True):
        single, mean = panel.containers
        assert (single.get_label(), mean.get_label()) == ("a single seed", "mean over seeds")
        np.testing.assert_allclose([single[0].get_xdata(), mean[0].get_xdata()], [[0.6 * factor], [0.8 * factor]])
        np.testing.assert_allclose(interval_ends(mean), [[0.8 * factor - 0.1, 0.8 * factor + 0.1]])
        (line,) = [line for line in panel.lines if line.get_label() == "chance"]
        np.testing.assert_allclose(line.get_xdata(), chance)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Grad-Cos, smoothed"]


def test_left_out_subsets_have_a_row_of_panels_for_each_kind_of_retrainings():
    rows = [
        {"method": method, "estimand": estimand, "left_out": left_out, "checkpoints": checkpoints}
        | {f"{measure}{end}": value + move for measure in ("lds_run", "lds_means") for end, move in ENDS.items()}
        for estimand, value in (("same run", 0.6), ("other seeds", 0.4))
        for method in ("trak", "random")
        for left_out, checkpoints in ((2, 5), (2, 1), (75, 1))
    ]
    rows += [{"method": "retraining", "estimand": "other seeds", "left_out": 2, "lds_run": 0.9}]
    figure = draw_left_out(pd.DataFrame(rows))
    assert [panel.get_title() for panel in figure.axes[::2]] == [
        "same run: scores of one run",
        "other seeds: scores of one run",
    ]
    # The curves of three methods stand beside each other, the middle one at its place.
    assert points_of(figure.axes[0])["TRAK"] == [[2 / 1.03, 0.6], [75 / 1.03, 0.6]]
    assert points_of(figure.axes[2])["random scores"] == [[2.0, 0.4], [75.0, 0.4]]
    assert points_of(figure.axes[2])["retrainings of other runs"] == [[2 * 1.03, 0.9]]
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["2", "75"]
    np.testing.assert_allclose(interval_ends(figure.axes[0].containers[0]), [[0.5, 0.7], [0.5, 0.7]])


ENDS = {"": 0.0, "_low": -0.1, "_high": 0.1}
