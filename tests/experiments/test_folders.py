"""Where everything lies."""

from pathlib import Path

import pytest
from conftest import CHECKOUT

from tda.experiments.folders import Experiment, embedded_base_folder, root, seeds_file, subset_file


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
        experiment.results.ensemble_score_file("datamodel"),
        experiment.results.retraining_file("abc"),
        experiment.results.s_test_file("if", 4, 15),
        experiment.results.new_example_file("if", 4, 15),
        embedded_base_folder("mnist3"),
    ]
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "random_seeds.pt",
        "data/subset_indices/mnist3/test_300pc.txt",
        "models/cnn/cnn_mnist3_10pc/4/ckpt_epoch_15.safetensors",
        "results/cnn_mnist3_10pc/manifest.json",
        "results/cnn_mnist3_10pc/tda_scores/if_lissa/4/attribution_epoch_15.parquet",
        "results/cnn_mnist3_10pc/ensemble_scores_datamodel.parquet",
        "results/cnn_mnist3_10pc/retrainings/abc.safetensors",
        "results/cnn_mnist3_10pc/s_test/if/4/s_test_epoch_15.safetensors",
        "results/cnn_mnist3_10pc/s_test/if/4/new_examples_epoch_15.parquet",
        "models/bases/mnist3",
    ]


def test_variant_has_folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    variant = Experiment("cnn", "mnist3", 10, "shortcut")
    assert variant.name == "cnn_mnist3_10pc_shortcut"
    assert variant.arguments == "--model cnn --task mnist3 --num_per_class 10 --variant shortcut"
    assert Experiment("cnn", "mnist3", 10).arguments == "--model cnn --task mnist3 --num_per_class 10"
    assert variant.results.path == tmp_path / "results" / "cnn_mnist3_10pc_shortcut"
    assert variant.seed_folder(0) == tmp_path / "models" / "cnn" / "cnn_mnist3_10pc_shortcut" / "0"


@pytest.mark.parametrize("value", [None, ""])
def test_checkout_is_the_root_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch, value: str | None):
    monkeypatch.delenv("TDA_ROOT", raising=False)
    if value is not None:
        monkeypatch.setenv("TDA_ROOT", value)
    assert root() == CHECKOUT.resolve()
