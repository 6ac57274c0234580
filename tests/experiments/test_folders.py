"""Where everything lies."""

from pathlib import Path

import pytest
from conftest import CHECKOUT

from tda.experiments.folders import Experiment, root, seeds_file, subset_file


def test_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    experiment = Experiment("cnn", "mnist3", 10)
    assert experiment.name == "cnn_mnist3_10pc"
    found = [
        seeds_file(),
        subset_file("mnist3", "test", 300),
        experiment.checkpoint_file(4, 15),
        experiment.results.manifest,
        experiment.results.score_file("if_lissa", 4, 15),
    ]
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "random_seeds.pt",
        "data/subset_indices/mnist3/test_300pc.txt",
        "models/cnn/cnn_mnist3_10pc/4/ckpt_epoch_15.safetensors",
        "results/cnn_mnist3_10pc/manifest.json",
        "results/cnn_mnist3_10pc/tda_scores/if_lissa/4/attribution_epoch_15.parquet",
    ]


@pytest.mark.parametrize("value", [None, ""])
def test_checkout_is_the_root_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch, value: str | None):
    monkeypatch.delenv("TDA_ROOT", raising=False)
    if value is not None:
        monkeypatch.setenv("TDA_ROOT", value)
    assert root() == CHECKOUT.resolve()
