"""Rows featurized in shards and merged are those of one program; what is missing, there twice or foreign is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset
from trak_programs import DIMENSION, TARGETS, TRAIN, image_data, image_model, scores_of, states

from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.arrays import read_array

SHARDS = ((0, 7), (7, 8), (8, TRAIN))


def traker_of(folder: Path, **options: object) -> TRAKer:
    given = {"task": "image_classification", "train_set_size": TRAIN, "proj_dim": DIMENSION} | options
    return TRAKer(image_model(), save_dir=folder, device="cpu", **given)


def featurize(folder: Path, shard: tuple[int, int], by_inds: bool = False, stop: int | None = None, **options) -> None:
    """What one machine does: its examples of both checkpoints; stop: before the shard's end."""
    traker = traker_of(folder, **options)
    positions = list(range(shard[0], stop or shard[1]))
    for model_id, checkpoint in enumerate(states()):
        traker.load_checkpoint(checkpoint, model_id, shard=shard)
        batches = DataLoader(Subset(image_data(TRAIN), positions), batch_size=4)
        for number, batch in enumerate(batches):
            where = {"inds": positions[4 * number : 4 * number + 4]} if by_inds else {"num_samples": len(batch[0])}
            traker.featurize(batch, **where)


def score(traker: TRAKer) -> torch.Tensor:
    traker.finalize_features()
    for model_id, checkpoint in enumerate(states()):
        traker.start_scoring_checkpoint("quickstart", checkpoint, model_id, TARGETS)
        for batch in DataLoader(image_data(TARGETS, seed=1), batch_size=6):
            traker.score(batch, num_samples=len(batch[0]))
    return torch.tensor(traker.finalize_scores("quickstart"))


@pytest.mark.parametrize("by_inds", [False, True])
def test_shards_merge_to_the_rows_and_scores_of_one_program(tmp_path: Path, by_inds: bool):
    expected = scores_of(image_model(), states(), image_data(TRAIN), image_data(TARGETS, seed=1), save_dir=tmp_path / "one")
    for shard in reversed(SHARDS):
        featurize(tmp_path / "many", shard, by_inds)
    traker = traker_of(tmp_path / "many")
    with pytest.raises(UserError, match="are in shards; call merge_shards"):
        traker.finalize_features()
    traker.merge_shards()
    torch.testing.assert_close(score(traker), expected, rtol=1e-11, atol=1e-13)
    for name in ("gradients", "out_to_loss", "identities", "marks"):
        one, many = (np.asarray(read_array(tmp_path / which / "1" / f"{name}.npy")) for which in ("one", "many"))
        np.testing.assert_allclose(many.astype(float), one.astype(float), rtol=1e-12, atol=1e-14)
    traker.merge_shards(delete_shards=True)
    assert not traker._folder.shards(0) and not list((tmp_path / "many" / "0").glob(".shards*"))
    traker.merge_shards()


def test_folders_of_several_machines_are_copied_together(tmp_path: Path):
    for number, shard in enumerate(SHARDS):
        featurize(tmp_path / str(number), shard)
        shutil.copytree(tmp_path / str(number), tmp_path / "all", dirs_exist_ok=True)
    traker = traker_of(tmp_path / "all")
    traker.merge_shards()
    assert traker._finalizer.training_rows(0).finished.all()


def test_a_finished_shard_computes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    featurize(tmp_path, SHARDS[0])
    monkeypatch.setattr("tda.gradients.projections.Projection.project", lambda *_: pytest.fail("computed again"))
    featurize(tmp_path, SHARDS[0])


def test_what_is_missing_twice_or_unfinished_is_refused(tmp_path: Path):
    featurize(tmp_path, (0, 7))
    featurize(tmp_path, (8, TRAIN))
    traker = traker_of(tmp_path)
    with pytest.raises(UserError, match="rows 7 to 7 are in no shard"):
        traker.merge_shards()
    featurize(tmp_path, (5, 8))
    with pytest.raises(UserError, match="rows 5 to 6 are in two shards, 0-7 and 5-8"):
        traker.merge_shards()
    for model_id in range(2):
        shutil.rmtree(tmp_path / str(model_id) / "shards" / "5-8")
        shutil.rmtree(tmp_path / str(model_id) / "shards" / f"8-{TRAIN}")
    with pytest.raises(UserError, match=f"rows 7 to {TRAIN - 1} are in no shard"):
        traker.merge_shards()
    featurize(tmp_path, (7, TRAIN), stop=10)
    with pytest.raises(UserError, match=rf"7-{TRAIN} is not finished: 3 of its {TRAIN - 7} rows"):
        traker.merge_shards()


def test_a_shard_of_something_else_is_refused(tmp_path: Path):
    for shard in SHARDS:
        featurize(tmp_path, shard)
    path = tmp_path / "0" / "shards" / "7-8" / "manifest.json"
    content = json.loads(path.read_text())
    for change, what in (
        ({"checkpoint": "another"}, "checkpoint"),
        ({"settings": content["settings"] | {"proj_dim": 9}}, "settings"),
        ({"origin": {"task": "another"}}, "task"),
        ({"parameters": "others"}, "parameters"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=rf"7-8 is of another {what}"):
            traker_of(tmp_path).merge_shards()
    path.write_text(json.dumps(content | {"examples": "others"}))
    with pytest.raises(UserError, match="holds other rows than its manifest says"):
        traker_of(tmp_path).merge_shards()
    path.write_text("{")
    with pytest.raises(UserError, match="manifest.json is damaged"):
        traker_of(tmp_path).merge_shards()


def test_rows_that_are_there_already_are_not_replaced_by_others(tmp_path: Path):
    scores_of(image_model(), states(), image_data(TRAIN, seed=5), image_data(TARGETS, seed=1), save_dir=tmp_path)
    featurize(tmp_path, (0, TRAIN))
    with pytest.raises(UserError, match="holds rows of other examples than its shards"):
        traker_of(tmp_path).merge_shards()


@pytest.mark.parametrize("shard", [(3, 3), (0, TRAIN + 1), (-1, 4), 5, (0.5, 2)])
def test_a_shard_that_is_none_is_refused(tmp_path: Path, shard: object):
    with pytest.raises(UserError, match="shard"):
        traker_of(tmp_path).load_checkpoint(states()[0], 0, shard=shard)


def test_batches_outside_the_shard_are_refused(tmp_path: Path):
    traker = traker_of(tmp_path)
    traker.load_checkpoint(states()[0], 0, shard=(7, 9))
    batch = image_data(TRAIN)[:1]
    with pytest.raises(UserError, match="the batch holds example 6, but 2 training examples were announced, counted from 7"):
        traker.featurize(batch, inds=[6])
    with pytest.raises(UserError, match="no shards"):
        shutil.rmtree(tmp_path / "0" / "shards")
        traker.merge_shards()
