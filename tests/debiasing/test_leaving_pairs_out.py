"""Leaving pairs out: nearness and recall against naive loops, and falls against trainings by hand."""

from pathlib import Path

import numpy as np
import pytest
import tiny_pairs
import torch

from tda.debiasing.pair_removal import Falls, Retrained, found_targets, removal_table, removals
from tda.debiasing.pair_retrieval import Nearness, as_nearness, measured_nearness, nearness_of_members, retrieval_rows
from tda.models.fine_tuning import PairTuning
from tda.models.model_state import read_state, write_state
from tda.statistics.target_scores import TargetScores
from tda.system.errors import UserError
from tda.training.ensembles import train_ensemble
from tda.training.many_models import train_many
from tda.training.runs import Run
from tda.training.study import Study, open_study


@pytest.fixture
def study(pair_root: Path, tmp_path: Path) -> Study:
    choices = PairTuning(base=str(tiny_pairs.clip_folder(tmp_path / "clip")))
    return open_study(tiny_pairs.EXPERIMENT, "cpu", choices)


def test_nearness_is_what_loops_give(study: Study):
    test = study.inputs(study.test)
    model = study.new_model(3)
    found = as_nearness(measured_nearness(model, test))
    with torch.no_grad():
        images, texts = (part.double() for part in model.embeddings(test.inputs))
    # Some of the small texts are equal, whose embeddings count as before the own one.
    for row in range(12):
        others = [place for place in range(12) if place != row]
        assert found.cosine[row] == pytest.approx(float(images[row] @ texts[row]))
        assert found.text_rank[row] == 1 + sum(float(images[row] @ texts[k] - found.cosine[row]) > -1e-12 for k in others)
        assert found.image_rank[row] == 1 + sum(float(images[k] @ texts[row] - found.cosine[row]) > -1e-12 for k in others)


def test_equal_embeddings_gain_nothing_by_their_order():
    class Constant(torch.nn.Module):
        def embeddings(self, inputs: torch.Tensor) -> tuple:
            return torch.ones(len(inputs), 2), torch.ones(len(inputs), 2)

    from tda.data.splits import Split

    split = Split(torch.zeros(5, 1), torch.zeros(5, 2), torch.arange(5))
    assert as_nearness(measured_nearness(Constant(), split)).text_rank.tolist() == [5] * 5


def test_recalls_of_every_seed_and_their_mean():
    ranks = np.array([[1, 2, 6, 30], [1, 1, 1, 11]])
    found = Nearness(np.full((2, 4), 0.5), ranks, ranks[:, ::-1])
    rows = retrieval_rows(found, [0, 4])
    assert [row["seed_id"] for row in rows] == ["0", "4", "mean", "low", "high"]
    assert [rows[0][f"text_recall_{k}"] for k in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert rows[2]["text_recall_1"] == 0.5 and rows[0]["chance_recall_1"] == 0.25 and rows[1]["text_median_rank"] == 1
    worse = np.maximum(found.text_rank, found.image_rank)
    expected = [pair for pair in range(4) if (worse[:, pair] <= 10).mean() >= 0.5]
    assert found_targets(found, 10, 9).tolist() == expected and found_targets(found, 40, 2).tolist() == [0, 1]


def test_what_is_left_out():
    scores = np.array([[1.0, 9.0], [3.0, 8.0], [2.0, 7.0], [0.0, 1.0]])
    named = TargetScores("trak", scores, scores, scores, scores)
    found = removals([named], 4, np.array([0, 5]), 2)
    assert found["trak"].tolist() == [[1, 2], [0, 1]]
    assert found["random"].shape == (2, 2) and all(len(set(row)) == 2 for row in found["random"].tolist())


def test_falls_are_those_of_trainings_by_hand(study: Study):
    retrained = Retrained(study, [5, 6], force=False)
    removed, targets = np.array([[0, 3, 8], [2, 4, 5]]), np.array([1, 7])
    base = retrained.without([[]])
    falls = retrained.falls(targets, removed, base)
    train, test = study.inputs(study.train), study.inputs(study.test)

    def by_hand(left_out: list[int], seed: int) -> Nearness:
        kept = torch.tensor([pair for pair in range(24) if pair not in left_out])
        batches = [kept[batch] for batch in study.plan.batches(seed, len(kept))]
        run = Run(read_state(study.new_model(seed)), batches, [len(batches)], seed=seed)
        ((_, (last,)),) = train_many(study.new_model(), study.plan, study.task.objective, [run], train, keep_states=True)
        model = study.new_model()
        write_state(last.state, model)
        return as_nearness(measured_nearness(model.eval(), test))

    for column, seed in enumerate((5, 6)):
        before = by_hand([], seed)
        for row, target in enumerate(targets):
            after = by_hand(removed[row].tolist(), seed)
            fall = before.cosine - after.cosine
            assert falls.cosine[row, column] == pytest.approx(fall[target], abs=1e-6)
            assert falls.of_others[row, column] == pytest.approx(np.delete(fall, target).mean(), abs=1e-6)
            rank = before.reciprocal_rank[target] - after.reciprocal_rank[target]
            assert falls.reciprocal_rank[row, column] == pytest.approx(rank)
            assert falls.after[row, column] == (after.text_rank[target] + after.image_rank[target]) / 2


def test_the_table_pairs_methods_by_targets_and_seeds():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(12, 3))
    falls = {
        name: Falls(noise + shift, noise / 2 + shift, noise, noise, noise)
        for name, shift in (("random", 0.0), ("trak", 2.0), ("repsim", 0.5))
    }
    table = removal_table(falls, 10).set_index("method")
    for end in ("", "_low", "_high"):
        assert table.loc["trak", f"more_than_random{end}"] == pytest.approx(2.0)
        assert table.loc["trak", f"more_than_repsim_in_rank{end}"] == pytest.approx(1.5)
    assert np.isnan(table.loc["random", "more_than_random"]) and "more_than_image_similarity" not in table
    assert table.loc["trak", "cosine_fall"] == pytest.approx(noise.mean() + 2)
    assert (table["targets"] == 12).all() and (table["seeds"] == 3).all()


def test_members_are_asked_and_other_tasks_refused(study: Study):
    train_ensemble(study, [0, 1], force=False)
    found = nearness_of_members(study, [0, 1])
    assert found.cosine.shape == (2, 12) and (found.text_rank >= 1).all()
    from conftest import EXPERIMENT

    with pytest.raises(UserError, match="has no images with texts"):
        nearness_of_members(open_study(EXPERIMENT, "cpu"), [0])
