"""Folders of photographs from decoding to the table: whole, in shards, killed and started again, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import run_here
from PIL import Image

from tda.models.photograph_classifiers import photograph_classifier
from tda.steps import folder_attribution
from tda.system.errors import UserError
from tda.trak import TRAKer

SCRIPT = "run_folder_attribution.py"
SMALL = {
    "train": "train",
    "targets": "targets",
    "image_size": 32,
    "dimension": 16,
    "k": 3,
    "batch_size": 4,
    "half_precision": False,
}


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder with seven training photographs of two classes and two targets."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    generator = np.random.default_rng(0)
    for part, counts in (("train", {"cat": 4, "dog": 3}), ("targets", {"cat": 1, "dog": 1})):
        for name, count in counts.items():
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{number}.png")
    return tmp_path


def table_of(root: Path, name: str = "photographs") -> pd.DataFrame:
    return pd.read_csv(root / "results" / name / "top_photographs.csv")


def scores_of(root: Path, model: str = "resnet18") -> np.ndarray:
    """The same by a plain TRAKer on all photographs at once, with features."""
    settings = run_settings()
    train, targets = folder_attribution._photographs(settings)
    network = photograph_classifier(model, 2, 32)
    batches = [
        [torch.stack([split[i][0] for i in range(len(split))]), torch.tensor(split.labels)] for split in (train, targets)
    ]
    traker = TRAKer(network, "image_classification", 7, root / "plain", device="cpu", proj_dim=16)
    traker.load_checkpoint(network.state_dict(), 0)
    traker.featurize(batches[0], num_samples=7)
    traker.finalize_features()
    traker.start_scoring_checkpoint("targets", network.state_dict(), 0, 2)
    traker.score(batches[1], num_samples=2)
    return np.array(traker.finalize_scores("targets"))


def run_settings():
    from conftest import settings_of

    return settings_of(SCRIPT, **SMALL)


def test_the_table_holds_the_extremes_of_the_scores(photographs: Path):
    line = run_here(SCRIPT, **SMALL)
    assert line.startswith("wrote top_photographs.csv of 2 targets and 7 training photographs, in /")
    table, scores = table_of(photographs), scores_of(photographs)
    for column, (_, rows) in enumerate(table.groupby("target", sort=True)):
        helpful = rows[rows["end"] == "helpful"].sort_values("place")
        np.testing.assert_allclose(helpful["score"], np.sort(scores[:, column])[::-1][:3], rtol=1e-3)
        harmful = rows[rows["end"] == "harmful"].sort_values("place")
        np.testing.assert_allclose(harmful["score"], np.sort(scores[:, column])[:3], rtol=1e-3)
    assert set(table["class"]) <= {"cat", "dog"}
    assert all(Path(path).parent.name == name for path, name in zip(table["photograph"], table["class"], strict=True))


def test_shards_give_the_table_of_one_run(photographs: Path):
    run_here(SCRIPT, **SMALL)
    for shard in (1, 0, 2):
        line = run_here(SCRIPT, **SMALL, name="parts", shard=shard, num_shards=3)
        assert line.startswith(f"wrote rows {7 * shard // 3} to {7 * (shard + 1) // 3 - 1} of 7 photographs")
    run_here(SCRIPT, **SMALL, name="parts", num_shards=3)
    whole, parts = table_of(photographs), table_of(photographs, "parts")
    assert (whole["photograph"] == parts["photograph"]).all()
    np.testing.assert_allclose(whole["score"], parts["score"], rtol=1e-3)


def test_a_killed_run_decodes_only_what_is_missing(photographs: Path, monkeypatch: pytest.MonkeyPatch):
    decoded, kept = [], folder_attribution.Photographs.__getitem__

    def counted(self, position: int):
        decoded.append(position)
        if len(decoded) == 5:
            raise KeyboardInterrupt
        return kept(self, position)

    monkeypatch.setattr(folder_attribution.Photographs, "__getitem__", counted)
    with pytest.raises(KeyboardInterrupt):
        run_here(SCRIPT, **SMALL)
    run_here(SCRIPT, **SMALL)
    assert decoded[5:] == [4, 5, 6, 0, 1]
    del decoded[:]
    decoded += [0] * 10
    run_here(SCRIPT, **SMALL)
    assert len(decoded) == 10


def test_other_photographs_under_the_same_name_are_refused(photographs: Path):
    run_here(SCRIPT, **SMALL)
    Image.new("RGB", (40, 40)).save(photographs / "train" / "cat" / "9.png")
    with pytest.raises(UserError, match="begun with other train than now"):
        run_here(SCRIPT, **SMALL)
    assert "8 training photographs" in run_here(SCRIPT, **SMALL, force=True)


def test_a_vision_transformer_of_small_images_goes_the_same_way(photographs: Path):
    run_here(SCRIPT, **SMALL | {"batch_size": 7}, model="vit_b_16")
    assert len(table_of(photographs)) == 12


def test_checkpoints_are_read_from_files(photographs: Path):
    model = photograph_classifier("resnet18", 2, 32)
    torch.save({"state_dict": model.state_dict()}, photographs / "model.pt")
    run_here(SCRIPT, **SMALL)
    run_here(SCRIPT, **SMALL, name="file", checkpoints=(str(photographs / "model.pt"),))
    np.testing.assert_allclose(table_of(photographs)["score"], table_of(photographs, "file")["score"], rtol=1e-5)
    torch.save(photograph_classifier("resnet18", 3, 32).state_dict(), photographs / "other.pt")
    (photographs / "damaged.pt").write_bytes(b"no")
    for name, sentence in (
        ("other.pt", r"another network: fc.weight is \(3, 512\), not \(2, 512\)"),
        ("damaged.pt", "cannot be read as a state dict"),
        ("absent.pt", "is missing"),
    ):
        with pytest.raises(UserError, match=sentence):
            run_here(SCRIPT, **SMALL, name="refused", checkpoints=(str(photographs / name),))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"shard": 2, "num_shards": 2}, "--shard 2 must lie in 0 to 1"),
        ({"shard": 0, "num_shards": 8}, "--num_shards 8 is more than the 7"),
        ({"train": "nowhere"}, "--train .* is no folder"),
        ({"model": "vgg"}, "--model vgg is no classifier"),
        ({"model": "vit_b_16", "image_size": 30}, "no multiple of 16"),
        ({"checkpoints": ()}, "--checkpoints names none"),
        ({"batch_size": 0}, "--batch_size 0 is too small"),
        ({"workers": -1}, "--workers -1 is no number of processes"),
        ({"memory_budget": 1e-9}, "too small for proj_dim=16"),
        ({"name": "../elsewhere"}, "cannot name a folder"),
    ],
)
def test_bad_settings_are_refused(photographs: Path, settings: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        run_here(SCRIPT, **SMALL | settings)


def test_a_class_of_targets_alone_is_refused(photographs: Path):
    (photographs / "targets" / "dog").rename(photographs / "targets" / "bird")
    with pytest.raises(UserError, match="the class bird of the targets has no training photographs"):
        run_here(SCRIPT, **SMALL)
