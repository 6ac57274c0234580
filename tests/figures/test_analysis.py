"""Figures: which examples are chosen, what is drawn, and that the same numbers give the same bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.figures.analysis import draw_correlations, draw_histograms
from tda.figures.examples import Gallery, draw_example
from tda.figures.saving import save_figure
from tda.methods.catalogue import method_title
from tda.methods.registry import load_method
from tda.statistics.extremes import choose_examples, extreme_examples, majority
from tda.statistics.pair_statistics import PairStatistics


def statistics_of(
    mean: np.ndarray, q_value: np.ndarray, ratio: np.ndarray | None = None, method: str = "loo"
) -> PairStatistics:
    ratio = np.ones_like(mean) if ratio is None else ratio
    return PairStatistics(method, 4, 5, mean, np.ones_like(mean), ratio, q_value, q_value, q_value)


def random_statistics(method: str, seed: int) -> PairStatistics:
    generator = np.random.default_rng(seed)
    return statistics_of(generator.normal(size=(12, 6)), generator.random((12, 6)), generator.random((12, 6)), method)


def make_gallery(task_name: str) -> Gallery:
    task, generator = task_named(task_name), torch.Generator().manual_seed(0)
    shape = (task.channels, task.image_size, task.image_size)
    splits = [
        Split(torch.randn(count, *shape, generator=generator), torch.arange(count) % 3, 100 + torch.arange(count))
        for count in (12, 6)
    ]
    return Gallery(task, *splits, predicted=np.array([0, 1, 2, 0, 1, 1]))


def test_majority_counts_votes_and_takes_the_smaller_label_on_a_tie():
    assert majority(np.array([[2, 0, 1], [2, 1, 2], [0, 1, 0]])).tolist() == [2, 1, 0]


def test_choice_goes_by_the_share_of_significant_pairs_averaged_over_methods():
    first = np.array([[0.9, 0.01, 0.01, 0.9], [0.9, 0.01, 0.9, 0.9]])
    second = np.array([[0.9, 0.01, 0.01, 0.01], [0.9, 0.9, 0.9, 0.9]])
    methods = [statistics_of(np.ones((2, 4)), q_value) for q_value in (first, second)]
    assert choose_examples(methods, np.zeros(4, bool)) == [1, 0]
    assert choose_examples(methods, np.array([False, False, True, True])) == [1, 0, 2]
    assert choose_examples(methods, np.array([False, True, False, False])) == [1, 0]


def test_a_tie_of_shares_goes_by_the_mean_size_of_t():
    ratio = np.array([[1.0, 3.0, 0.5], [1.0, 1.0, 0.5]])
    method = statistics_of(np.ones((2, 3)), np.ones((2, 3)), ratio)
    assert choose_examples([method], np.zeros(3, bool)) == [1, 2]
    equal = statistics_of(np.ones((2, 3)), np.ones((2, 3)))
    assert choose_examples([equal], np.zeros(3, bool)) == [0]


def test_extremes_are_ordered_and_keep_their_sign():
    helpful, harmful = extreme_examples(np.array([0.1, -3.0, 5.0, 0.0, 2.0, 2.0, 7.0, 1.0, -1.0]))
    assert helpful.tolist() == [6, 2, 4, 5, 7]
    assert harmful.tolist() == [1, 8]


def test_a_registered_method_has_a_title_and_another_its_name():
    assert method_title("loo") == load_method("loo").title != "loo"
    assert method_title("nobody_registered_this") == "nobody_registered_this"


def test_an_example_shows_its_numbers_and_the_images_before_normalisation():
    gallery = make_gallery("cifar10")
    method = random_statistics("loo", 0)
    figure = draw_example(gallery, [method], position=5)
    test_panel, *training_panels = figure.axes
    pixels = gallery.test.inputs[5].numpy().transpose(1, 2, 0) * 0.5 + 0.5
    np.testing.assert_allclose(test_panel.images[0].get_array(), pixels.clip(0, 1), atol=1e-6)
    assert test_panel.texts[0].get_text() == "class: bird\npredicted: automobile"
    best = int(method.mean[:, 5].argmax())
    assert training_panels[0].get_title() == f"{gallery.task.class_names[best % 3]} (#{100 + best})"
    assert training_panels[0].texts[0].get_text() == (
        f"mean {method.mean[best, 5]:.3g}\nstd {method.std[best, 5]:.3g}\nq {method.q_value[best, 5]:.3g}"
    )


def test_a_histogram_shows_shares_of_pairs():
    q_value = np.array([[0.01, 0.02, 0.5, 0.97]])
    figure = draw_histograms([statistics_of(q_value, q_value)])
    (panel,) = figure.axes
    heights = [bar.get_height() for bar in panel.patches]
    assert heights[0] == 0.5 and heights[10] == 0.25 and heights[19] == 0.25 and sum(heights) == 1
    assert panel.get_title() == "LOO\n50.0% below 0.05 (4 seeds, 5 checkpoints)"


def test_an_undefined_correlation_is_a_dash():
    matrix = pd.DataFrame([[1.0, np.nan], [np.nan, -0.001]], index=["loo", "b"], columns=["loo", "b"])
    panel = draw_correlations({"Pearson": matrix}, "agreement").axes[0]
    by_cell = {text.get_position()[::-1]: text.get_text() for text in panel.texts}
    assert by_cell == {(0.5, 0.5): "1.00", (0.5, 1.5): "–", (1.5, 0.5): "–", (1.5, 1.5): "0.00"}
    assert [label.get_text() for label in panel.get_yticklabels()] == ["LOO", "b"]


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path):
    names = ["loo", "grad_cos", "grad_dot", "one_more"]
    methods = [random_statistics(name, seed) for seed, name in enumerate(names)]
    matrix = pd.DataFrame(np.eye(4), index=names, columns=names)
    draw = {
        "histograms": lambda: draw_histograms(methods),
        "correlations": lambda: draw_correlations({"Pearson": matrix, "Spearman": matrix}, "agreement"),
        "example": lambda: draw_example(make_gallery("digits3"), methods[:1], 3),
    }
    for name, make in draw.items():
        contents = []
        for folder in (tmp_path / "first", tmp_path / "second"):
            paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
            save_figure(make(), *paths)
            contents.append([path.read_bytes() for path in paths])
        assert contents[0] == contents[1]
        assert contents[0][0].startswith(b"\x89PNG") and contents[0][1].startswith(b"%PDF")
