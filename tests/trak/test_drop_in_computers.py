"""Gradient computers and score computers of the package trak: ours on their own, and those of a program's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drop_in_rows import PARAMETERS, SCORED, TRAINED, gradients, made, rows
from torch import Tensor, nn
from trak_programs import TRAIN, ImageOutput, image_model, scores_of, states

from tda.system.errors import UserError
from tda.trak.gradient_computers import AbstractGradientComputer, FunctionalGradientComputer, IterativeGradientComputer
from tda.trak.modelout_functions import ImageClassificationModelOutput, IterativeImageClassificationModelOutput
from tda.trak.projectors import NoOpProjector
from tda.trak.score_computers import AbstractScoreComputer, BasicScoreComputer, BasicSingleBlockScoreComputer
from tda.trak.utils import parameters_to_vector, vectorize


class BatchedOutput(ImageOutput):
    """f of a whole batch, of the model as it is."""

    @staticmethod
    def get_output(model: nn.Module, weights: None, buffers: None, images: Tensor, labels: Tensor) -> Tensor:
        """Margins (n,)."""
        logits = model(images)
        others = logits.masked_fill(nn.functional.one_hot(labels, 3).bool(), -torch.inf)
        return logits[torch.arange(len(labels)), labels] - others.logsumexp(dim=1)

    def get_out_to_loss_grad(self, model: nn.Module, weights: None, buffers: None, batch: list[Tensor]) -> Tensor:
        """1 - p."""
        return 1 - model(batch[0]).softmax(1)[torch.arange(len(batch[1])), batch[1]]


ITERATIVE = {
    "named": {"task": "image_classification"},
    "iterative": {"task": "iterative_image_classification"},
    "own": {"task": BatchedOutput()},
}


@pytest.mark.parametrize("case", ITERATIVE)
def test_the_iterative_gradient_computer(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.trak.example_gradients._MEMORY_BUDGET", 8 * PARAMETERS * 7)
    options = {"projector": NoOpProjector(), "proj_dim": 0, "gradient_computer": IterativeGradientComputer} | ITERATIVE[case]
    np.testing.assert_allclose(rows(tmp_path, **options), gradients(), rtol=1e-9, atol=1e-12)


class Doubling(FunctionalGradientComputer):
    """A gradient computer of a program's own, by inheritance: a Q of its own."""

    def compute_loss_grad(self, batch: list[Tensor]) -> Tensor:
        """2 (1 - p)."""
        return 2 * super().compute_loss_grad(batch)


class Plain(AbstractGradientComputer):
    """A gradient computer of a program's own, from scratch."""

    def __init__(self, model: nn.Module, task: object, grad_dim: int, dtype: object, device: object, grad_wrt: object) -> None:
        super().__init__(model, task, grad_dim, dtype, device)
        self.loaded = 0

    def load_model_params(self, model: nn.Module) -> None:
        """Count the checkpoints."""
        self.model = model
        self.loaded += 1

    def compute_per_sample_grad(self, batch: list[Tensor]) -> Tensor:
        """Gradients (n, p), times how many checkpoints were loaded."""
        weights, buffers = dict(self.model.named_parameters()), dict(self.model.named_buffers())
        each = []
        for example in zip(*batch, strict=True):
            output = self.modelout_fn.get_output(self.model, weights, buffers, *example)
            each.append(parameters_to_vector(torch.autograd.grad(output, list(weights.values()))))
        return self.loaded * torch.stack(each)

    def compute_loss_grad(self, batch: list[Tensor]) -> Tensor:
        """1 for each."""
        return torch.ones(len(batch[0]), 1)


def test_a_gradient_computer_of_ones_own(tmp_path: Path):
    expected = rows(tmp_path / "named")
    found = rows(tmp_path / "inherited", gradient_computer=Doubling)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    q = [np.load(tmp_path / name / "0" / "out_to_loss.npy") for name in ("inherited", "named")]
    np.testing.assert_allclose(q[0], 2 * q[1])
    traker = made(tmp_path / "own", gradient_computer=Plain, projector=NoOpProjector())
    for model_id in range(2):
        traker.load_checkpoint(states()[0], model_id)
        traker.featurize(TRAINED[:], num_samples=TRAIN)
        found = np.load(tmp_path / "own" / str(model_id) / "gradients.npy")
        np.testing.assert_allclose(found, (1 + model_id) * gradients(), rtol=1e-9)
    assert np.load(tmp_path / "own" / "0" / "out_to_loss.npy").tolist() == [1] * TRAIN
    for given in (object(), object, "functional"):
        with pytest.raises(UserError, match="subclass of AbstractGradientComputer"):
            made(tmp_path / "none", gradient_computer=given)


@pytest.mark.parametrize("projector", [None, NoOpProjector()])
def test_a_program_computes_rows_of_new_examples_itself(projector: object, tmp_path: Path):
    traker = made(tmp_path, projector=projector)
    for model_id, checkpoint in enumerate(states()):
        traker.load_checkpoint(checkpoint, model_id)
        traker.featurize(TRAINED[:], num_samples=TRAIN)
        traker.finalize_features()
        formed = traker.gradient_computer.compute_per_sample_grad(batch=SCORED[:])
        found = traker.projector.project(formed, model_id=traker.saver.current_model_id) / traker.normalize_factor
        torch.testing.assert_close(found.double(), traker.project(SCORED[:]), rtol=1e-5, atol=1e-6)
        store, q = traker.saver.current_store, traker.gradient_computer.compute_loss_grad(TRAINED[:])
        np.testing.assert_allclose(q.reshape(-1, 1), store["out_to_loss"])


def test_a_gradient_computer_of_ones_own_is_the_one_that_computes(tmp_path: Path):
    traker = made(tmp_path, gradient_computer=Plain, projector=NoOpProjector())
    traker.gradient_computer.loaded = 4
    traker.load_checkpoint(states()[0], 0)
    traker.featurize(TRAINED[:], num_samples=TRAIN)
    np.testing.assert_allclose(traker.saver.current_store["grads"], 5 * gradients(), rtol=1e-9)


class Named(FunctionalGradientComputer):
    """A gradient computer of a program whose batches are dicts."""

    def compute_per_sample_grad(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those of a tuple."""
        return super().compute_per_sample_grad((batch["picture"], batch["class"]))

    def compute_loss_grad(self, batch: dict[str, Tensor]) -> Tensor:
        """That of a tuple."""
        return super().compute_loss_grad((batch["picture"], batch["class"]))


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
def test_a_gradient_computer_of_ones_own_is_given_batches_as_they_are(task: object, tmp_path: Path):
    expected, (images, labels) = rows(tmp_path / "tuples", task=task), TRAINED[:]
    traker = made(tmp_path / "dicts", task=task, gradient_computer=Named)
    traker.load_checkpoint(states()[0], 0)
    traker.featurize({"class": labels, "picture": images}, num_samples=TRAIN)
    np.testing.assert_allclose(traker.saver.current_store["grads"], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(traker.project({"class": labels, "picture": images}), torch.tensor(expected))
    computer = FunctionalGradientComputer(image_model(), made(tmp_path / "dicts", task=task).task)
    for compute in (computer.compute_per_sample_grad, computer.compute_loss_grad):
        with pytest.raises(UserError, match="as tuples, labels last|takes image, label"):
            compute({"class": labels, "picture": images})


def test_gradient_computers_on_their_own():
    model = image_model().eval()
    for computer, task in ((FunctionalGradientComputer, ImageOutput()), (IterativeGradientComputer, BatchedOutput())):
        own = computer(model, task, PARAMETERS, torch.float64, "cpu")
        found = own.compute_per_sample_grad(TRAINED[:])
        found = vectorize(found) if isinstance(found, dict) else found
        torch.testing.assert_close(found, gradients())
        chosen = computer(model, task, grad_wrt=["4.bias"]).compute_per_sample_grad(TRAINED[:])
        torch.testing.assert_close(chosen["4.bias"] if isinstance(chosen, dict) else chosen, gradients()[:, -3:])


def test_gradients_are_multiplied_with_the_q_of_a_named_task():
    model, (images, labels) = image_model().eval(), TRAINED[:]
    for task in (ImageClassificationModelOutput(), IterativeImageClassificationModelOutput()):
        q = FunctionalGradientComputer(model, task).compute_loss_grad(TRAINED[:])
        expected = [(1 - model(images[[i]]).softmax(1)[0, labels[i]]) * row for i, row in enumerate(gradients())]
        torch.testing.assert_close(gradients() * q, torch.stack(expected).detach())


class Scaling(AbstractScoreComputer):
    """A score computer of a program's own: no inverse at all, and scores doubled."""

    def __init__(self, dtype: torch.dtype, device: object, logging_level: int, lambda_reg: float | None) -> None:
        super().__init__(dtype, device)

    def get_xtx(self, grads: Tensor) -> Tensor:
        """Nothing."""
        return torch.eye(grads.shape[1], dtype=grads.dtype)

    def get_x_xtx_inv(self, grads: Tensor, xtx: Tensor) -> Tensor:
        """The rows."""
        return grads @ xtx

    def get_scores(self, features: Tensor, target_grads: Tensor, accumulator: Tensor) -> None:
        """Doubled inner products."""
        accumulator += 2 * features @ target_grads.T


def test_a_score_computer_of_ones_own(tmp_path: Path):
    options = {"save_dir": tmp_path / "own", "score_computer": Scaling, "projector": NoOpProjector()}
    found = scores_of(image_model(), states(1), TRAINED, SCORED, **options)
    q = torch.tensor(np.load(tmp_path / "own" / "0" / "out_to_loss.npy"))
    torch.testing.assert_close(found, 2 * gradients() @ gradients(SCORED).T * q[:, None])
    for given in (object(), object):
        with pytest.raises(UserError, match="subclass of AbstractScoreComputer"):
            made(tmp_path / "none", score_computer=given)


@pytest.mark.parametrize("ridge", [None, 0.3])
@pytest.mark.parametrize("computer", [BasicScoreComputer, BasicSingleBlockScoreComputer])
def test_score_computers_on_their_own(computer: type, ridge: float | None):
    grads, targets = (torch.randn(n, 6, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (20, 4))
    own = computer(dtype=torch.float64, device="cpu", lambda_reg=ridge)
    added = grads.square().sum(1).mean() if ridge is None else ridge
    features = own.get_x_xtx_inv(grads, own.get_xtx(grads))
    torch.testing.assert_close(features, grads @ torch.linalg.inv(grads.T @ grads + added * torch.eye(6)))
    accumulator = torch.ones(20, 4)
    own.get_scores(features, targets, accumulator=accumulator)
    torch.testing.assert_close(accumulator, (1 + features @ targets.T).float())
    with pytest.raises(UserError, match="singular"):
        computer(dtype=torch.float64, device="cpu", lambda_reg=0).get_x_xtx_inv(torch.ones(5, 6), torch.ones(6, 6))
