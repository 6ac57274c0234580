"""How figures are titled and written: the same numbers give the same bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.figures.correlations import draw_correlations
from tda.figures.examples import Gallery, draw_example
from tda.figures.histograms import draw_histograms
from tda.figures.saving import save_figure, save_picture
from tda.methods.catalogue import method_title
from tda.methods.registry import load_method
from tda.statistics.pair_statistics import PairStatistics

NAMES = ["loo", "grad_cos", "grad_dot", "one_more"]


def random_statistics(method: str, seed: int) -> PairStatistics:
    generator = np.random.default_rng(seed)
    mean, ratio, q_value = generator.normal(size=(12, 6)), generator.random((12, 6)), generator.random((12, 6))
    return PairStatistics(method, 4, 5, mean, np.ones_like(mean), ratio, q_value, q_value, q_value)


def histograms() -> Figure:
    return draw_histograms([random_statistics(name, seed) for seed, name in enumerate(NAMES)])


def correlations() -> Figure:
    matrix = pd.DataFrame(np.eye(4), index=NAMES, columns=NAMES)
    return draw_correlations({"Pearson": matrix, "Spearman": matrix}, "agreement")


def example() -> Figure:
    generator = torch.Generator().manual_seed(0)
    splits = [
        Split(torch.randn(count, 1, 28, 28, generator=generator), torch.arange(count) % 3, torch.arange(count))
        for count in (12, 6)
    ]
    gallery = Gallery(task_named("digits3"), *splits, predicted=np.array([0, 1, 2, 0, 1, 1]))
    return draw_example(gallery, [random_statistics("loo", 0)], 3)


def some_figure() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2, 3], label="line")
    return figure


def test_a_registered_method_has_a_title_and_another_its_name():
    assert method_title("loo") == load_method("loo").title != "loo"
    assert method_title("nobody_registered_this") == "nobody_registered_this"


@pytest.mark.parametrize("draw", [histograms, correlations, example])
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, draw: Callable[[], Figure]):
    contents = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        save_figure(draw(), folder / "figure_of_3.5")
        assert sorted(path.name for path in folder.iterdir()) == ["figure_of_3.5.pdf", "figure_of_3.5.png"]
        contents.append([(folder / f"figure_of_3.5.{suffix}").read_bytes() for suffix in ("png", "pdf")])
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"\x89PNG") and contents[0][1].startswith(b"%PDF")
    assert b"CreationDate" not in contents[0][1] and b"Software" not in contents[0][0]


@pytest.mark.parametrize(("suffix", "head"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_a_picture_is_written_in_the_one_format_that_its_name_says(tmp_path: Path, suffix: str, head: bytes):
    save_picture(some_figure(), tmp_path / f"picture.{suffix}")
    (path,) = tmp_path.iterdir()
    assert path.name == f"picture.{suffix}" and path.read_bytes().startswith(head)
