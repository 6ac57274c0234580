"""Scores belong to the checkpoints that are there now: what is of others, or of a part of the seeds, is named and not taken."""

import shutil

import pytest
import torch
from conftest import EXPERIMENT, SEEDS, Ensemble, contents, run_here

from tda.experiments.folders import Experiment
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identity
from tda.system.errors import UserError

METHOD, OTHER = "grad_dot", "grad_cos"


def train(**settings: object) -> str:
    return run_here("run_cnn_training.py", num_per_class=2, **settings)


def score(**settings: object) -> str:
    return run_here("run_tda.py", methods={METHOD: {}, OTHER: {}}, num_per_class=2, **settings)


def analyse(script: str) -> str:
    return run_here(script, experiment=EXPERIMENT.name)


def score_files(ensemble: Ensemble) -> dict[str, bytes]:
    return contents(ensemble.root, f"results/*/tda_scores/{METHOD}/**/*.parquet")


@pytest.fixture
def retrained(ensemble: Ensemble) -> Ensemble:
    """Scored with one list of seeds, then trained anew with another."""
    score()
    torch.save(torch.tensor(SEEDS) + 100, ensemble.root / "random_seeds.pt")
    with pytest.raises(UserError, match="--force"):
        train()
    train(force=True)
    return ensemble


def test_scores_of_models_that_are_gone_are_refused_by_every_analysis(retrained: Ensemble):
    for script in ("run_compute_pvalues.py", "run_correlation_analysis.py"):
        with pytest.raises(UserError, match="is of a checkpoint that is no longer there"):
            analyse(script)


def test_the_final_table_is_never_of_earlier_scores_or_models(ensemble: Ensemble):
    score()
    analyse("run_compute_pvalues.py")
    assert METHOD in analyse("run_show_summary.py")
    one = EXPERIMENT.results.score_file(METHOD, 2, 11)
    kept = one.read_bytes()
    one.unlink()
    with pytest.raises(UserError, match="summary.csv is not of the scores that are there now"):
        analyse("run_show_summary.py")
    one.write_bytes(kept)
    assert METHOD in analyse("run_show_summary.py")
    torch.save(torch.tensor(SEEDS) + 100, ensemble.root / "random_seeds.pt")
    train(force=True)
    with pytest.raises(UserError, match="scores of checkpoints that are no longer there"):
        analyse("run_show_summary.py")


def test_scoring_again_replaces_them(retrained: Ensemble):
    before = score_files(retrained)
    assert "wrote 30 score files, kept 0" in score()
    after = score_files(retrained)
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in before)
    assert "wrote 0 score files, kept 30" in score()
    assert analyse("run_compute_pvalues.py").startswith("wrote p-values of 2 methods")


@pytest.mark.parametrize("num_seeds", [-1, 0, 4, 10**30])
def test_more_first_seeds_than_are_trained_are_refused_by_what_is_trained(root, num_seeds: int):
    checkpoints = Checkpoints(EXPERIMENT, {(seed_id, 15): {"seed": seed_id} for seed_id in range(3)})
    with pytest.raises(UserError, match=f"first {num_seeds} seeds of cnn_digits3_2pc are asked for, .* trained: 0, 1, 2; ask"):
        fresh_scores(checkpoints, METHOD, num_seeds=num_seeds)
    others = Checkpoints(EXPERIMENT, {(seed_id, 15): {"seed": seed_id} for seed_id in (0, 2, 5)})
    with pytest.raises(UserError, match="first 2 seeds .* trained: 0, 2, 5; ask"):
        fresh_scores(others, METHOD, num_seeds=2)


def test_a_partial_set_of_seeds_is_refused_unless_asked_for(ensemble: Ensemble):
    score()
    shutil.rmtree(EXPERIMENT.results.score_file(METHOD, 2, 15).parent)
    checkpoints = read_checkpoints(EXPERIMENT)
    with pytest.raises(UserError, match="no scores of seed 2 .* which is trained"):
        fresh_scores(checkpoints, METHOD)
    assert fresh_scores(checkpoints, METHOD, num_seeds=2).seed_ids == [0, 1]


def test_seeds_of_two_trainings_are_never_pooled():
    infos = {(seed_id, 15): {"data": "a", "plan": {"epochs": epochs}} for seed_id, epochs in enumerate((15, 15, 10))}
    checkpoints = Checkpoints(EXPERIMENT, infos)
    checkpoints.require_one_training([(0, 15), (1, 15)])
    with pytest.raises(UserError, match="seeds 0 and 2 of .* were trained in different ways"):
        checkpoints.require_one_training(infos)


def test_identity_follows_the_scores_and_their_checkpoints(ensemble: Ensemble):
    score()
    checkpoints = read_checkpoints(EXPERIMENT)
    identity = score_identity(EXPERIMENT, METHOD)
    assert identity == score_identity(EXPERIMENT, METHOD, fresh_scores(checkpoints, METHOD))
    EXPERIMENT.results.score_file(METHOD, 2, 15).unlink()
    assert score_identity(EXPERIMENT, METHOD) != identity


def test_seeds_are_those_that_the_checkpoints_were_trained_from(ensemble: Ensemble):
    checkpoints = read_checkpoints(EXPERIMENT)
    assert checkpoints.seeds() == [*SEEDS] and checkpoints.seeds(2) == [11, 22]


def test_no_checkpoints_no_seeds(ensemble: Ensemble):
    checkpoints = read_checkpoints(Experiment("cnn", "digits3", 3))
    assert checkpoints.seed_ids == checkpoints.seeds() == []


def test_a_copy_beside_a_checkpoint_is_none(ensemble: Ensemble):
    score()
    path = EXPERIMENT.checkpoint_file(0, 15)
    shutil.copy(path, path.with_stem(f"{path.stem}_backup"))
    assert "wrote p-values" in analyse("run_compute_pvalues.py")
