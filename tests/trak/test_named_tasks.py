"""The named tasks: their f and Q against their definitions, batches and outputs of every form, labels that are none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_traker import closed_form, combined
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from trak_programs import DIMENSION, TARGETS, TRAIN, bert, image_data, image_model, language_data, scores_of, states, text_data

from tda.gradients.projections import Projection
from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.modelout_functions import TASK_TO_MODELOUT, task_output


def falls_as_f_rises(task: str, logits: Tensor, labels: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """-dL/df by two derivatives along one logit, where f moves only with it: of each example (n,)."""
    logits = logits.clone().requires_grad_()
    output = task_output(task).quantity(logits, labels)
    of_output, of_loss = (torch.autograd.grad(value.sum(), logits)[0] for value in (output, loss(logits)))
    return -(of_output * of_loss).flatten(1).sum(1) / of_output.square().flatten(1).sum(1)


def test_f_and_q_of_a_binary_classifier_are_those_of_its_loss():
    logits, labels = torch.tensor([[1.5], [-0.7], [0.2]], dtype=torch.float64), torch.tensor([1, 0, 0])
    task = task_output("binary_classification")
    torch.testing.assert_close(task.quantity(logits, labels), torch.tensor([1.5, 0.7, -0.2], dtype=torch.float64))
    loss = lambda z: functional.binary_cross_entropy_with_logits(z.flatten(), labels.double(), reduction="none")  # noqa: E731
    expected = falls_as_f_rises("binary_classification", logits, labels, loss)
    torch.testing.assert_close(task.reweighting(logits, labels), expected)
    torch.testing.assert_close(task.reweighting(logits.flatten(), labels), expected)


def test_f_and_q_of_a_regression_are_those_of_half_its_squared_error():
    logits, labels = torch.tensor([[1.5], [-0.7]], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)
    task = task_output("regression")
    torch.testing.assert_close(task.quantity(logits, labels), torch.tensor([1.5, -0.7], dtype=torch.float64))
    expected = falls_as_f_rises("regression", logits, labels, lambda z: (z.flatten() - labels).square() / 2)
    torch.testing.assert_close(task.reweighting(logits, labels), expected)
    torch.testing.assert_close(expected, torch.tensor([-0.5, 2.7], dtype=torch.float64))


def test_f_and_q_of_a_sequence_are_means_over_its_counted_labels():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[1, 4, -100], [0, -100, 2]])
    task = task_output("sequence_to_sequence")
    for i, counted in enumerate(([0, 1], [0, 2])):
        p = logits[i, counted].softmax(-1)[range(2), labels[i, counted]]
        torch.testing.assert_close(task.quantity(logits, labels)[i], (p / (1 - p)).log().mean())
        torch.testing.assert_close(task.reweighting(logits, labels)[i], (1 - p).mean())


def test_a_label_that_is_no_class_has_no_margin():
    task, logits = task_output("image_classification"), torch.tensor([[1.0, 2.0, 3.0]] * 4)
    labels = torch.tensor([0, 2, 3, -1])
    for found in (task.quantity(logits, labels), task.reweighting(logits, labels)):
        assert found.isfinite().tolist() == [True, True, False, False]


def test_regression_scores_are_the_change_of_predictions_without_an_example(tmp_path: Path):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    inputs, targets, ridge = draw(40, 5), draw(TARGETS, 5), 3.0
    labels = inputs @ draw(5) + 0.5 * draw(40)
    solve = lambda x, y: torch.linalg.solve(x.T @ x + ridge * torch.eye(5, dtype=x.dtype), x.T @ y)  # noqa: E731
    kept = [torch.arange(40) != i for i in range(40)]
    whole = solve(inputs, labels)
    changes = torch.stack([targets @ (whole - solve(inputs[keep], labels[keep])) for keep in kept])
    model = nn.Linear(5, 1, bias=False).double()
    model.weight.data = whole[None]
    train, scored = TensorDataset(inputs, labels), TensorDataset(targets, torch.zeros(TARGETS))
    options = {"task": "regression", "lambda_reg": ridge, "projector": Projection(4096)}
    found = scores_of(model, [model.state_dict()], train, scored, save_dir=tmp_path, **options)
    hat = inputs @ torch.linalg.solve(inputs.T @ inputs + ridge * torch.eye(5).double(), inputs.T)
    torch.testing.assert_close(found, changes * (1 - hat.diagonal())[:, None])


def one_logit(squeezed: bool) -> nn.Module:
    torch.manual_seed(0)
    last = [nn.Flatten(0)] if squeezed else []
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 1), *last).double()


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("name", ["binary_classification", "regression"])
def test_models_of_one_output_are_the_closed_form(name: str, squeezed: bool, tmp_path: Path):
    train, targets = (TensorDataset(data[:][0], data[:][1] % 2) for data in (image_data(TRAIN), image_data(TARGETS, seed=1)))
    model = one_logit(squeezed)
    expected = combined(closed_form(one_logit(False), [model.state_dict()], task_output(name), train, targets, None))
    labels = {"(n,)": lambda y: y, "(n, 1)": lambda y: y[:, None], "floating": lambda y: y.float(), "bool": lambda y: y.bool()}
    for form, formed in labels.items():
        data = [TensorDataset(data[:][0], formed(data[:][1])) for data in (train, targets)]
        found = scores_of(model, [model.state_dict()], *data, task=name, save_dir=tmp_path / form)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cast", [Tensor.int, Tensor.byte, Tensor.short, lambda labels: labels[:, None]])
def test_labels_of_other_whole_numbers_are_the_same(cast: Callable[[Tensor], Tensor], tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(), train, targets, save_dir=tmp_path / "int64")
    data = [TensorDataset(data[:][0], cast(data[:][1])) for data in (train, targets)]
    torch.testing.assert_close(scores_of(image_model(), states(), *data, save_dir=tmp_path / "other"), expected)


IMAGES = image_data(TRAIN)[:][0]
LABELS = image_data(TRAIN)[:][1]
TOKENS, TYPES, MASK, CLASSES = text_data(TRAIN)[:]
_, _, NEXT = language_data(TRAIN)[:]


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, attn_implementation="eager")).double()


def labels_with(labels: Tensor, value: int) -> Tensor:
    return labels.index_fill(0, torch.tensor([3]), value)


REFUSED = {
    "classes counted from 1": (
        "image_classification",
        image_model,
        (IMAGES, LABELS + 1),
        "label .* is 3, .* classes from 0 to 2",
    ),
    "-1": ("image_classification", image_model, (IMAGES, labels_with(LABELS, -1)), "example 3 of the batch is -1"),
    "255": ("image_classification", image_model, (IMAGES, labels_with(LABELS.byte(), 255)), "example 3 of the batch is 255"),
    "floating classes": ("image_classification", image_model, (IMAGES, LABELS.float()), "the labels are float32; classes"),
    "one-hot": ("image_classification", image_model, (IMAGES, functional.one_hot(LABELS)), r"the labels are \(20, 3\)"),
    "one logit": ("image_classification", lambda: one_logit(False), (IMAGES, LABELS % 2), 'use task="binary_classification"'),
    "no class axis": ("image_classification", lambda: one_logit(True), (IMAGES, LABELS % 2), "a classifier's are"),
    "pixels": (
        "image_classification",
        lambda: nn.Conv2d(1, 3, 3).double(),
        (IMAGES, LABELS),
        r"\(1, 3, 4, 4\), a classifier's",
    ),
    "binary: 2": (
        "binary_classification",
        lambda: one_logit(False),
        (IMAGES, LABELS),
        "is 2, but the model knows classes from 0 to 1",
    ),
    "binary: 0.5": ("binary_classification", lambda: one_logit(True), (IMAGES, LABELS / 2), "knows classes from 0 to 1"),
    "binary: many": ("binary_classification", image_model, (IMAGES, LABELS % 2), r"\(1, 3\), a binary classifier's"),
    "regression: many": ("regression", image_model, (IMAGES, LABELS.double()), "choose one of them in a task of your own"),
    "text: 2": ("text_classification", bert, (TOKENS, TYPES, MASK, CLASSES + 1), "is 2, .* classes from 0 to 1"),
    "next token: -1": ("language_modeling", gpt2, (TOKENS, MASK, NEXT.masked_fill(MASK == 0, -1)), "is -1, .* tokens, or -100"),
    "next token: 20": ("language_modeling", gpt2, (TOKENS, MASK, NEXT.clamp(min=0) + 2), "is 20, .* from 0 to 19"),
    "next token: (n,)": ("language_modeling", gpt2, (TOKENS, MASK, CLASSES), r"a language model's are \(n, tokens\)"),
    "a classifier as language": ("language_modeling", bert, (TOKENS, MASK, NEXT), "a language model's are"),
    "no labels": ("image_classification", image_model, {"images": IMAGES}, "must hold inputs, and labels"),
    "strings": ("image_classification", image_model, (IMAGES, ["a"] * TRAIN), "part number 1 of a batch is list"),
    "a tensor": ("image_classification", image_model, IMAGES, "a batch is a sequence"),
    "other counts": ("image_classification", image_model, (IMAGES[:-1], LABELS), "hold 19 and 20 examples"),
    "other arguments": ("text_classification", image_model, (TOKENS, MASK, CLASSES), "cannot be called with input_ids, att"),
    "other shapes": ("image_classification", image_model, (MASK.double(), LABELS), r"cannot be called with inputs \(1, 7\)"),
    "three tensors": (
        "image_classification",
        image_model,
        (IMAGES, MASK, LABELS),
        r"takes batches \(inputs, labels\), not of 3",
    ),
}


@pytest.mark.parametrize("step", ["featurize", "score"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_fits_no_model_is_one_sentence(case: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task, make, batch, words = REFUSED[case]
    model = make()
    traker = TRAKer(model, task, TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(model.state_dict(), 0)
    if step == "score":
        # What a step before has not seen must not slip through the next one.
        monkeypatch.setattr("tda.trak.finalizing.Finalizer.require_features", lambda *_: None)
        traker.start_scoring_checkpoint("e", model.state_dict(), 0, TRAIN)
    with pytest.raises(UserError, match=words) as refused:
        getattr(traker, step)(batch, num_samples=TRAIN)
    assert "\n" not in str(refused.value)


def test_a_later_batch_with_a_label_that_is_none_is_refused(tmp_path: Path):
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    traker.featurize((IMAGES[:10], LABELS[:10]), num_samples=10)
    with pytest.raises(UserError, match="example 2 of the batch is 3"):
        traker.featurize((IMAGES[10:], LABELS[10:].index_fill(0, torch.tensor([2]), 3)), num_samples=10)


class Returning(nn.Module):
    """A classifier that returns its logits in the given wrapping."""

    def __init__(self, wrapped: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.inner, self.wrapped = image_model(), wrapped

    def forward(self, images: Tensor) -> object:
        return self.wrapped(self.inner(images))


def model_output(logits: Tensor) -> object:
    from transformers.modeling_outputs import ImageClassifierOutput

    return ImageClassifierOutput(logits=logits)


@pytest.mark.parametrize(
    "wrapped",
    [lambda z: (z,), lambda z: (z, z.sum(1)), lambda z: [z], lambda z: {"logits": z, "features": z.exp()}, model_output],
)
def test_outputs_in_any_wrapping(wrapped: Callable[[Tensor], object], tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(1), train, targets, save_dir=tmp_path / "plain")
    model = Returning(wrapped)
    found = scores_of(model, [model.state_dict()], train, targets, save_dir=tmp_path / "wrapped")
    renamed = Returning(lambda z: z)
    torch.testing.assert_close(found, scores_of(renamed, [renamed.state_dict()], train, targets, save_dir=tmp_path / "same"))
    assert found.shape == expected.shape


def test_an_output_without_logits_is_one_sentence(tmp_path: Path):
    for wrapped in (lambda z: None, lambda z: ({"out": z},), lambda z: {"out": z, "features": z.exp()}):
        model = Returning(wrapped)
        traker = TRAKer(model, "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
        traker.load_checkpoint(model.state_dict(), 0)
        with pytest.raises(UserError, match="logits"):
            traker.featurize((IMAGES, LABELS), num_samples=TRAIN)


def scores_of_batches(folder: Path, model: nn.Module, task: str, formed: Callable[..., object], *data: tuple) -> np.ndarray:
    """Scores where every batch is given in one form."""
    train, targets = data
    traker = TRAKer(model, task, len(train[0]), folder, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(model.state_dict(), np.int64(0))
    traker.featurize(formed(*train), num_samples=np.int32(len(train[0])))
    traker.finalize_features(model_ids=np.array([0]))
    traker.start_scoring_checkpoint("e", model.state_dict(), np.int64(0), num_targets=np.int64(len(targets[0])))
    traker.score(formed(*targets), inds=torch.arange(len(targets[0])))
    return np.array(traker.finalize_scores("e"))


def batch_encoding(ids: Tensor, types: Tensor, mask: Tensor, labels: Tensor) -> object:
    from transformers import BatchEncoding

    return BatchEncoding({"label": labels, "attention_mask": mask, "input_ids": ids, "token_type_ids": types})


TEXT_FORMS = {
    "dict": lambda i, t, m, y: {"input_ids": i, "token_type_ids": t, "attention_mask": m, "labels": y},
    "BatchEncoding": batch_encoding,
    "no types": lambda i, t, m, y: (i, m, y),
    "dict without types": lambda i, t, m, y: {"labels": y, "input_ids": i, "attention_mask": m},
    "dict and labels": lambda i, t, m, y: ({"input_ids": i, "attention_mask": m, "token_type_ids": t}, y),
    "arrays": lambda i, t, m, y: [part.numpy() for part in (i, t, m, y)],
    "labels as a list": lambda i, t, m, y: (i, t, m, y.tolist()),
}


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_text_batches_in_any_form(form: str, tmp_path: Path):
    data = [text_data(count, seed)[:] for count, seed in ((TRAIN, 0), (TARGETS, 1))]
    expected = scores_of_batches(tmp_path / "tuple", bert(), "text_classification", lambda *parts: parts, *data)
    found = scores_of_batches(tmp_path / "form", bert(), "text_classification", TEXT_FORMS[form], *data)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_image_batches_as_dicts(tmp_path: Path):
    data = [image_data(count, seed)[:] for count, seed in ((TRAIN, 0), (TARGETS, 1))]
    expected = scores_of_batches(tmp_path / "tuple", image_model(), "image_classification", lambda *parts: parts, *data)
    formed = lambda images, labels: {"pixel_values": images, "labels": labels}  # noqa: E731
    found = scores_of_batches(tmp_path / "dict", image_model(), "image_classification", formed, *data)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["T5", "MT5"])
def test_sequence_to_sequence_layer_by_layer(name: str, tmp_path: Path):
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    config = getattr(transformers, f"{name}Config")(**sizes, dropout_rate=0.1, decoder_start_token_id=0, pad_token_id=0)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).double()

    def data(count: int, seed: int) -> TensorDataset:
        tokens, _, mask, _ = text_data(count, seed)[:]
        _, _, labels = language_data(count, seed + 5)[:]
        return TensorDataset(tokens, mask, labels[:, :5])

    train, targets, checkpoints = data(TRAIN, 0), data(TARGETS, 1), [model.state_dict()]
    task = task_output("sequence_to_sequence")
    assert task.goes_layer_by_layer
    found = scores_of(model, checkpoints, train, targets, task=task, save_dir=tmp_path / "tuple")
    torch.testing.assert_close(found, combined(closed_form(model, checkpoints, task, train, targets, None)))
    own = type("Own", (type(task),), {"get_output": lambda self, *given: super(type(self), self).get_output(*given)})()
    torch.testing.assert_close(scores_of(model, checkpoints, train, targets, task=own, save_dir=tmp_path / "own"), found)
    formed = lambda i, m, y: {"input_ids": i, "attention_mask": m, "labels": y}  # noqa: E731
    by_name = scores_of_batches(tmp_path / "dict", model, "sequence_to_sequence", formed, train[:], targets[:])
    np.testing.assert_allclose(by_name, found)
    with pytest.raises(UserError, match="for one of encoder and decoder choose the task sequence_to_sequence"):
        scores_of(model, checkpoints, train, targets, task="language_modeling", save_dir=tmp_path / "other")


def test_the_iterative_task_is_the_image_classifier(tmp_path: Path):
    train, targets = image_data(TRAIN), image_data(TARGETS, seed=1)
    expected = scores_of(image_model(), states(), train, targets, save_dir=tmp_path / "named")
    found = scores_of(
        image_model(), states(), train, targets, task="iterative_image_classification", save_dir=tmp_path / "other"
    )
    torch.testing.assert_close(found, expected)
    task, model = TASK_TO_MODELOUT["iterative_image_classification"](), image_model().eval()
    outputs = task.get_output(model, None, None, *train[:])
    torch.testing.assert_close(outputs, task.quantity(model(train[:][0]), train[:][1]))
