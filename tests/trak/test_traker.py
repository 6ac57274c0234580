"""TRAKer against the closed form, as its users' programs call it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from trak_programs import (
    DIMENSION,
    TARGETS,
    TRAIN,
    ImageOutput,
    TextOutput,
    bert,
    image_data,
    image_model,
    language_data,
    scores_of,
    states,
    text_data,
)

from tda.gradients.projections import Projection
from tda.system.errors import UserError
from tda.system.random_streams import stream_seed
from tda.trak import TRAKer
from tda.trak.modelout_functions import task_output


def naive_rows(model: nn.Module, task: object, data: TensorDataset) -> tuple[Tensor, Tensor]:
    """Gradients (n, p) of the task's output and Q (n,), one example at a time by autograd, in float64."""
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    rows, reweighting = [], []
    for example in data:
        output = task.get_output(model, weights, buffers, *example)
        found = torch.autograd.grad(output, list(weights.values()), materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
        batch = [tensor[None] for tensor in example]
        reweighting.append(task.get_out_to_loss_grad(model, weights, buffers, batch).detach().reshape(()))
    return torch.stack(rows), torch.stack(reweighting)


def projected(model: nn.Module, rows: Tensor, model_id: int, kind: str, dimension: int = DIMENSION) -> Tensor:
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    matrices = Projection(dimension, stream_seed(0, f"model {model_id}"), kind).matrix(shapes)
    return rows @ torch.cat([matrices[name] for name in shapes], dim=1).T


def closed_form(model, checkpoints, task, train, targets, ridge, kind="sparse", dimension=DIMENSION) -> list[tuple]:
    """For each checkpoint: phi^T (Phi^T Phi + lambda)^-1 Phi^T (n, m) and Q (n,)."""
    parts = []
    for model_id, checkpoint in enumerate(checkpoints):
        model.load_state_dict(checkpoint)
        model.eval()
        left, reweighting = naive_rows(model, task, train)
        right, _ = naive_rows(model, task, targets)
        left, right = (projected(model, rows, model_id, kind, dimension) for rows in (left, right))
        gram = left.T @ left
        added = left.square().sum(dim=1).mean() if ridge is None else ridge
        inverse = torch.linalg.pinv(gram + added * torch.eye(len(gram)), hermitian=True, rtol=1e-12)
        parts.append((left @ inverse @ right.T, reweighting))
    return parts


def combined(parts: list[tuple]) -> Tensor:
    return torch.stack([product for product, _ in parts]).mean(0) * torch.stack([q for _, q in parts]).mean(0)[:, None]


@pytest.mark.parametrize("ridge", [None, 0.0, 0.3])
@pytest.mark.parametrize("kind", ["sparse", "normal", "rademacher"])
def test_scores_are_the_closed_form(kind: str, ridge: float | None, tmp_path: Path):
    train, targets, task = image_data(TRAIN), image_data(TARGETS, seed=1), task_output("image_classification")
    options = {"save_dir": tmp_path, "lambda_reg": ridge, "projector": Projection(DIMENSION, 0, kind)}
    found = scores_of(image_model(), states(), train, targets, **options)
    parts = closed_form(image_model(), states(), task, train, targets, ridge, kind)
    torch.testing.assert_close(found, combined(parts))
    traker = TRAKer(image_model(), "image_classification", TRAIN, device="cpu", **options)
    for model_id, (product, reweighting) in enumerate(parts):
        kept = torch.tensor(traker.scores_of_model("quickstart", model_id))
        torch.testing.assert_close(kept, product * reweighting[:, None])
    np.testing.assert_array_equal(np.load(tmp_path / "scores" / "quickstart.mmap"), found)


@pytest.mark.parametrize("ridge", [None, 0.0, 0.3])
def test_fewer_examples_than_dimensions_go_through_the_dual(ridge: float | None, tmp_path: Path):
    train, targets, task = image_data(5), image_data(TARGETS, seed=1), task_output("image_classification")
    found = scores_of(image_model(), states(), train, targets, save_dir=tmp_path, lambda_reg=ridge)
    parts = closed_form(image_model(), states(), task, train, targets, ridge)
    torch.testing.assert_close(found, combined(parts), rtol=1e-5, atol=1e-7)


def test_users_own_output_gives_what_the_named_task_gives(tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    named = scores_of(image_model(), states(), train, targets, save_dir=tmp_path / "named")
    own = scores_of(image_model(), states(), train, targets, task=ImageOutput(), save_dir=tmp_path / "own")
    torch.testing.assert_close(own, named)


def test_text_classifier_with_logits_as_an_attribute(tmp_path: Path):
    train, targets = text_data(TRAIN), text_data(TARGETS, seed=1)
    checkpoints = [bert(seed).state_dict() for seed in range(2)]
    expected = combined(closed_form(bert(), checkpoints, TextOutput(), train, targets, None))
    own = scores_of(bert(), checkpoints, train, targets, task=TextOutput(), save_dir=tmp_path / "own")
    torch.testing.assert_close(own, expected)
    named = scores_of(bert(), checkpoints, train, targets, task="text_classification", save_dir=tmp_path / "named")
    torch.testing.assert_close(named, expected)


def test_causal_language_model(tmp_path: Path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, attn_implementation="eager")
    model = GPT2LMHeadModel(config).double()
    train, targets, checkpoint = language_data(TRAIN), language_data(TARGETS, seed=1), [model.state_dict()]
    found = scores_of(model, checkpoint, train, targets, task="language_modeling", save_dir=tmp_path)
    expected = closed_form(model, checkpoint, task_output("language_modeling"), train, targets, None)
    torch.testing.assert_close(found, combined(expected))


class Pairs(nn.Module):
    """Image and text embeddings of four dimensions, and a temperature."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.image, self.text = nn.Linear(5, 4), nn.Embedding(9, 4)
        self.double()

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text = (nn.functional.normalize(part, dim=1) for part in (self.image(image), self.text(text).mean(dim=1)))
        return image, text, torch.tensor(3.0, dtype=torch.float64)


def test_clip(tmp_path: Path):
    model, task = Pairs(), task_output("clip")
    generator = torch.Generator().manual_seed(0)
    data = [
        TensorDataset(torch.randn(count, 5, generator=generator).double(), torch.randint(9, (count, 3), generator=generator))
        for count in (TRAIN, TARGETS)
    ]
    with pytest.raises(UserError, match="call traker.task.get_embeddings"):
        scores_of(model, [model.state_dict()], *data, task=task, save_dir=tmp_path / "unprepared")
    task.get_embeddings(model, [data[0][:10], data[0][10:]], batch_size=10, embedding_dim=4, size=15)
    assert task.image_embeddings.shape == (15, 4)
    found = scores_of(model, [model.state_dict()], *data, task=task, save_dir=tmp_path / "clip")
    torch.testing.assert_close(found, combined(closed_form(model, [model.state_dict()], task, *data, None)))
    with pytest.raises(UserError, match="have 4 dimensions"):
        task.get_embeddings(model, [data[0][:]], batch_size=20, embedding_dim=5)


def trained_classifier(data: TensorDataset, weights: Tensor) -> nn.Module:
    """A logistic regression trained to the end on the examples whose weight is not 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    images, labels = data[:]
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
        penalty = sum(parameter.square().sum() for parameter in model.parameters())
        value = (losses * weights).sum() + penalty
        value.backward()
        return value

    optimizer.step(loss)
    return model


def test_a_positive_score_means_that_removing_the_example_lowers_the_margin(tmp_path: Path):
    train, targets, task = image_data(TRAIN), image_data(TARGETS, seed=1), task_output("image_classification")
    everything = torch.ones(TRAIN, dtype=torch.float64)
    model = trained_classifier(train, everything)
    scores = scores_of(model, [model.state_dict()], train, targets, save_dir=tmp_path, projector=Projection(256))
    images, labels = targets[:]
    margin = lambda model: task.quantity(model(images), labels).detach()  # noqa: E731
    removals = [trained_classifier(train, everything.where(torch.arange(TRAIN) != i, 0)) for i in range(TRAIN)]
    lost = torch.stack([margin(model) - margin(without) for without in removals])
    correlations = torch.corrcoef(torch.stack([scores.flatten(), lost.flatten()]))
    assert correlations[0, 1] > 0.8


def test_gradients_of_chosen_parameters_only(tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    found = [
        scores_of(image_model(), states(), train, targets, task=task, save_dir=tmp_path / str(number), grad_wrt=["4.weight"])
        for number, task in enumerate(("image_classification", ImageOutput()))
    ]
    frozen = image_model()
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_(name == "4.weight")
    found.append(scores_of(frozen, states(), train, targets, save_dir=tmp_path / "frozen"))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
def test_batch_boundaries_change_nothing(task: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(), train, targets, task=task, save_dir=tmp_path / "6")
    monkeypatch.setattr("tda.trak.example_gradients._MEMORY_BUDGET", 1)
    for size in (1, 7, 20):
        found = scores_of(image_model(), states(), train, targets, size, task=task, save_dir=tmp_path / str(size))
        torch.testing.assert_close(found, expected)


def test_positions_in_any_order(tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(1), train, targets, save_dir=tmp_path / "ordered")
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path / "shuffled", device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    for indices in torch.randperm(TRAIN).split(6):
        traker.featurize(batch=train[indices], inds=indices)
    traker.finalize_features()
    traker.start_scoring_checkpoint("quickstart", states()[0], 0, TARGETS)
    for indices in torch.randperm(TARGETS).split(4):
        traker.score(batch=targets[indices], inds=indices.tolist())
    torch.testing.assert_close(torch.tensor(traker.finalize_scores("quickstart")), expected)


def test_half_precision_keeps_the_gradients_in_float16(tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(), train, targets, save_dir=tmp_path / "double")
    found = scores_of(image_model(), states(), train, targets, save_dir=tmp_path / "half", use_half_precision=True)
    assert np.load(tmp_path / "half" / "0" / "gradients.npy").dtype == np.float16
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_gradients_can_be_deleted_once_there_are_features(tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(1), train, targets, save_dir=tmp_path)
    make = lambda **options: TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=8, **options)  # noqa: E731
    make().finalize_features(del_grads=True)
    assert not (tmp_path / "0" / "gradients.npy").exists()
    torch.testing.assert_close(scores_of(image_model(), states(1), train, targets, save_dir=tmp_path), expected)
    with pytest.raises(UserError, match="were deleted by del_grads"):
        make(lambda_reg=0.1).finalize_features()
