"""A new example is answered from the folder alone: exactly, and by faiss with recall that is measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from trak_programs import DIMENSION, TARGETS, TRAIN, image_data, image_model, scores_of, states

from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.faiss_index import FaissIndex, recall
from tda.trak.gradient_index import GradientIndex, IndexedModel
from tda.trak.top_examples import Extremes


def traker_of(folder: Path, **options: object) -> TRAKer:
    return TRAKer(image_model(), "image_classification", TRAIN, folder, device="cpu", proj_dim=DIMENSION, **options)


def gradients_of(traker: TRAKer) -> dict[int, torch.Tensor]:
    found = {}
    for model_id, checkpoint in enumerate(states()):
        traker.load_checkpoint(checkpoint, model_id)
        found[model_id] = traker.project(image_data(TARGETS, seed=1).tensors)
    return found


@pytest.mark.parametrize("keep_features", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_answers_are_the_extremes_of_finalize_scores(tmp_path: Path, keep_features: bool, in_memory: bool):
    arguments = image_model(), states(), image_data(TRAIN), image_data(TARGETS, seed=1)
    scores = scores_of(*arguments, save_dir=tmp_path, keep_features=keep_features).numpy()
    traker = traker_of(tmp_path, keep_features=keep_features)
    gradients, index = gradients_of(traker), traker.index()
    index = index.in_memory() if in_memory else index
    found = index.search(gradients, k=3)
    order = np.argsort(-scores, axis=0, kind="stable")
    assert index.search(gradients, k=10**12).helpful.shape == scores.shape
    np.testing.assert_array_equal(found.helpful, order[:3])
    np.testing.assert_allclose(found.helpful_scores, np.take_along_axis(scores, order[:3], axis=0), rtol=2e-5)
    np.testing.assert_allclose(
        index.vectors(slice(0, TRAIN)) @ index.queries(gradients).T, scores, rtol=1e-4, atol=1e-5 * np.abs(scores).max()
    )


def test_an_index_of_what_is_not_finalized_is_refused(tmp_path: Path):
    traker = traker_of(tmp_path)
    with pytest.raises(UserError, match="no checkpoint is loaded to project with"):
        traker.project(image_data(2).tensors)
    traker.load_checkpoint(states()[0], 0)
    with pytest.raises(UserError, match="has no features"):
        traker.index()


def test_gradients_that_do_not_fit_are_refused(tmp_path: Path):
    scores_of(image_model(), states(), image_data(TRAIN), image_data(TARGETS, seed=1), save_dir=tmp_path)
    index = traker_of(tmp_path).index()
    for given, sentence in (
        ({0: torch.zeros(2, DIMENSION)}, "gradients of model 1 are missing"),
        ({0: torch.zeros(2, DIMENSION), 1: torch.zeros(2, 3)}, r"are \(2, 3\), not \(examples, 8\)"),
        ({0: torch.zeros(2, DIMENSION), 1: torch.zeros(3, DIMENSION)}, "different numbers of new examples"),
    ):
        with pytest.raises(UserError, match=sentence):
            index.search(given)


def clustered_index(count: int = 3000, dimension: int = 32) -> tuple[GradientIndex, dict[int, torch.Tensor]]:
    """Rows around 20 centres, as gradients of classes are, and targets near them."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((20, dimension))
    rows, targets = (
        (centres[generator.integers(20, size=number)] + 0.5 * generator.standard_normal((number, dimension))).astype(np.float32)
        for number in (count, 10)
    )
    model = IndexedModel(0, rows, generator.random(count).astype(np.float32), None, "rows")
    return GradientIndex([model], torch.device("cpu")), {0: torch.from_numpy(targets)}


@pytest.mark.parametrize(("kind", "least"), [("Flat", 1.0), ("IVF16,SQfp16", 0.9), ("HNSW16,Flat", 0.6)])
def test_faiss_finds_most_of_the_exact_answers_with_exact_scores(tmp_path: Path, kind: str, least: float):
    pytest.importorskip("faiss")
    exact, gradients = clustered_index()
    expected = exact.search(gradients, k=10)
    index = FaissIndex(exact, tmp_path / "index.faiss", kind)
    found = index.search(gradients, k=10, candidates=40, effort=64)
    assert recall(found, expected) >= least
    whole = exact.vectors(slice(0, exact.count)) @ exact.queries(gradients).T
    np.testing.assert_allclose(found.helpful_scores, np.take_along_axis(whole, found.helpful, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.harmful_scores, np.take_along_axis(whole, found.harmful, axis=0), rtol=1e-4, atol=1e-5)
    assert (np.diff(found.helpful_scores, axis=0) <= 0).all() and (np.diff(found.harmful_scores, axis=0) >= 0).all()


def test_an_index_is_built_once_and_again_for_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("faiss")
    exact, gradients = clustered_index()
    path = tmp_path / "index.faiss"
    first = FaissIndex(exact, path, "Flat").search(gradients, k=5)
    content = path.read_bytes()
    built = []
    monkeypatch.setattr(FaissIndex, "_built", lambda self, *given: built.append(given))
    again = FaissIndex(exact, path, "Flat").search(gradients, k=5)
    assert not built and path.read_bytes() == content
    np.testing.assert_array_equal(first.helpful, again.helpful)
    monkeypatch.undo()
    other = GradientIndex(
        [IndexedModel(0, exact.models[0].rows[:100], exact.models[0].out_to_loss[:100], None, "others")], exact.device
    )
    assert FaissIndex(other, path, "Flat").search(gradients, k=5).helpful.max() < 100


def test_unknown_kinds_and_too_many_cells_are_refused(tmp_path: Path):
    pytest.importorskip("faiss")
    exact, _ = clustered_index(count=50)
    for kind, sentence in (("Nonsense", "faiss knows no index 'Nonsense'"), ("IVF64,Flat", "more cells than the 50")):
        with pytest.raises(UserError, match=sentence):
            FaissIndex(exact, tmp_path / "index.faiss", kind)


def test_recall_counts_both_ends():
    right = Extremes(np.array([[1], [2]]), np.zeros((2, 1)), np.array([[3], [4]]), np.zeros((2, 1)))
    found = Extremes(np.array([[2], [9]]), np.zeros((2, 1)), np.array([[4], [3]]), np.zeros((2, 1)))
    assert recall(found, right) == 0.75
