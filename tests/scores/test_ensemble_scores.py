"""The ensemble's score against a loop, with and without a factor that is averaged apart."""

import shutil

import numpy as np
import pytest
from conftest import EXPERIMENT, Ensemble, run_here

from tda.scores.ensemble_scores import ensemble_scores, write_ensemble_scores
from tda.scores.score_files import Scores, load_score_file, methods_on_disk

SHAPE = (3, 2, 4, 5)


def some_scores(with_factor: bool) -> tuple[Scores, np.ndarray, np.ndarray]:
    """Scores of three seeds, two epochs, as products of a factor and a rest."""
    generator = np.random.default_rng(0)
    factors, rest = generator.uniform(0.1, 1, SHAPE[:3]), generator.normal(size=SHAPE)
    reports = {
        (seed, epoch): {"train_factor": factors[seed, i].tolist()} if with_factor else {}
        for seed in range(3)
        for i, epoch in enumerate((14, 15))
    }
    values = (factors[..., None] * rest).astype(np.float32)
    return Scores("some", [0, 1, 2], [14, 15], np.arange(4), np.arange(5), values, {}, reports), factors, rest


@pytest.mark.parametrize("num_checkpoints", [1, 2])
def test_factor_is_averaged_apart(num_checkpoints: int):
    scores, factors, rest = some_scores(with_factor=True)
    factors, rest = factors[:, -num_checkpoints:], rest[:, -num_checkpoints:]
    expected = factors.mean(axis=(0, 1))[:, None] * rest.mean(axis=(0, 1))
    np.testing.assert_allclose(ensemble_scores(scores, num_checkpoints), expected, rtol=1e-5, atol=1e-6)


def test_plain_mean_without_a_factor():
    scores, *_ = some_scores(with_factor=False)
    np.testing.assert_allclose(ensemble_scores(scores, 1), scores.values[:, 1].astype(float).mean(axis=0), rtol=1e-12)


def test_file_beside_the_members_files(ensemble: Ensemble):
    path = EXPERIMENT.results.ensemble_score_file("trak")
    chosen = {"methods": {"trak": {}, "grad_dot": {}}, "num_per_class": 2}
    for seed_id in (0, 2):
        assert str(path) not in run_here("run_tda.py", seed_id=seed_id, **chosen)
    assert not path.exists()
    assert str(path) in run_here("run_tda.py", seed_id=1, **chosen)
    assert not EXPERIMENT.results.ensemble_score_file("grad_dot").exists()
    shutil.rmtree(EXPERIMENT.results.score_folder("grad_dot"))
    before = path.read_bytes()
    assert str(path) in write_ensemble_scores(EXPERIMENT, "trak") and path.read_bytes() == before
    values, train_indices, test_indices, metadata = load_score_file(path)
    assert values.shape == (6, 150) and len(train_indices) == 6 and len(test_indices) == 150
    assert metadata["seed_id"] == [0, 1, 2] and metadata["epoch"] == [11, 12, 13, 14, 15]
    assert methods_on_disk(EXPERIMENT.results) == ["trak"]
    rest, factor = 0, 0
    for seed_id in range(3):
        for epoch in range(11, 16):
            member, *_, described = load_score_file(EXPERIMENT.results.score_file("trak", seed_id, epoch))
            own = np.array(described["report"]["train_factor"])[:, None]
            factor, rest = factor + own / 15, rest + member / own / 15
    np.testing.assert_allclose(values, factor * rest, rtol=1e-5, atol=1e-9)
