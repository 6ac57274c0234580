"""A model small enough for explicit matrices, in float64, and the naive references that methods are compared with."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny_texts
import torch
from conftest import CPU, SEEDS
from tiny_texts import LanguageModel, TextClassifier
from torch import Tensor, nn
from torch.func import grad, jacrev
from torch.nn import functional

from tda.data.index_files import write_subset
from tda.data.splits import Split, load_split
from tda.data.tasks import Task, task_named
from tda.experiments.folders import Experiment
from tda.methods.registry import load_method
from tda.models.families import ModelFamily
from tda.models.lora import adapted
from tda.models.model_state import ModelState, trained_parameters
from tda.models.training_plan import TrainingPlan
from tda.models.vit_base import load_base, silence_transformers
from tda.system.inputs import Inputs, call, chosen
from tda.training.checkpoints import save_checkpoint
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.study import Study

NUM_PARAMETERS = {
    "cnn": 2 * 25 + 2 + 50 * 4 + 4 + 4 * 3 + 3,
    "vit": 2 * 2 * 2 * 2 * 8 + 8 * 3 + 3,
    "text": 14 * 6 + 6 * 6 + 4 * (6 * 6 + 6) + 2 * 6 + 6 * 3 + 3,
    "language": 14 * 6 + 6 * 6 + 4 * (6 * 6 + 6) + 2 * 6 + 6 * 14 + 14,
    "bert": (14 + 6 + 2) * 4 + 2 * 4 + 4 * 20 + 2 * 4 + 2 * 20 + 2 * 4 + 20 + 15,
    "gpt": (14 + 6) * 4 + 4 * 12 + 12 + 20 + 2 * 20 + 3 * 8 + 14 * 4,
    "t5": 14 * 4 * 2 + (4 + 2 + 8 + 2) * 16 + 2 * 32 * 2 + 7 * 4,
    "llama": 2 * (2 * 8 + 8 * 2 + 2 * 8 + 4 * 2),
}


def build(task: Task) -> nn.Module:
    """271 parameters in float64: a convolution, a hidden layer and three logits."""
    layers = (nn.Conv2d(1, 2, 5, stride=5), nn.GELU(), nn.Flatten(), nn.Linear(50, 4), nn.GELU(), nn.Linear(4, 3))
    return nn.Sequential(*layers).double()


def build_transformer(base_folder: Path, task: Task) -> nn.Module:
    """155 trained parameters in float64: adapters of rank 2 on two layers of width 8 and five tokens, and three logits."""
    model = adapted(load_base(str(base_folder)), rank=2, alpha=4, dropout=0.0, num_logits=3).double()
    model.initialise()
    return model


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained ViT for grey images of 28 x 28 and its image processor; to be copied, never changed."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("bases") / "tiny"
    silence_transformers()
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(**sizes, image_size=28, patch_size=14, num_channels=1, hidden_dropout_prob=0.0, initializer_range=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 28, "width": 28}, image_mean=[0.5], image_std=[0.5]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained BERT for the tiny texts."""
    folder = tmp_path_factory.mktemp("bases") / "bert"
    silence_transformers()
    tiny_texts.save_text_base(folder)
    return folder


def plan(task: Task) -> TrainingPlan:
    """Ordinary Adam, but few epochs in small batches, at a rate that moves the model."""
    return TrainingPlan(epochs=6, learning_rate=1e-2, batch_size=4, num_kept_epochs=3)


def decaying_plan(task: Task) -> TrainingPlan:
    """The same with the rate falling to 0."""
    return replace(plan(task), linear_decay=True)


OfOne = Callable[[Tensor, Tensor], Tensor]
"""Maps one example's logits (1, ...) and label to a number, or to several."""

MODELS: dict[str, tuple[Callable[[Task], nn.Module], Task]] = {
    "text": (lambda task: TextClassifier(), tiny_texts.CLASSES),
    "language": (lambda task: LanguageModel(), tiny_texts.TOKENS),
    "bert": (tiny_texts.small_bert, tiny_texts.CLASSES),
    "gpt": (tiny_texts.small_gpt, tiny_texts.TOKENS),
    "t5": (tiny_texts.small_t5, tiny_texts.ANSWERS),
    "llama": (tiny_texts.small_llama, tiny_texts.TOKENS),
}

_TRAINED: dict[str, list[ModelState]] = {}


@pytest.fixture
def tiny(root: Path, request: pytest.FixtureRequest) -> tuple[Split, Split, list[Member]]:
    """9 training and 12 test examples in float64, and the trained members of seed 0 at epochs 4, 5 and 6.

    By parameter: a CNN and a vision transformer on pictures; on texts a classifier, a causal language model, and BERT, GPT-2
    and T5 of transformers.
    """
    kind = getattr(request, "param", "cnn")
    task, how = task_named("digits3"), (build, plan)
    if kind == "vit":
        how = (partial(build_transformer, request.getfixturevalue("tiny_base")), decaying_plan)
    elif kind in MODELS:
        make, task = MODELS[kind]
        how = (lambda task: make(task).double(), plan)
        for part, size in (("train", 3), ("test", task.test_per_class)):
            write_subset(task, part, size, draw_seed=0, force=True)
    family = ModelFamily("tiny", "tiny model", *how, "no script")
    train, test = load_split(task, "train", 3).cast(torch.float64), load_split(task, "test")[:12].cast(torch.float64)
    experiment = Experiment("tiny", task.name, 3)
    study = Study(experiment, task, family, SEEDS, train, test, CPU)
    # Trained once in a process; a test has copies of its own.
    if kind not in _TRAINED:
        run = seed_run(study, SEEDS[0])
        ((_, snapshots),) = train_many(study.new_model(), study.plan, task.objective, [run], train, keep_states=True)
        _TRAINED[kind] = [found.state for found in snapshots]
    members = [
        Member(study, 0, epoch, state, {}) for epoch, state in zip((4, 5, 6), copy.deepcopy(_TRAINED[kind]), strict=True)
    ]
    assert len(flat_parameters(members[0].model)) == NUM_PARAMETERS[kind]
    return train, test, members


def stored(members: list[Member]) -> list[Member]:
    """The members, once their checkpoints are on disk, where methods along the trajectory look for them."""
    for member in members:
        save_checkpoint(member.study, member.seed_id, member.epoch, member.state, {})
    return members


def score(method: str, members: list[Member], train: Split, test: Split, **settings) -> list[Tensor]:
    """Scores of each member by a registered method with its default settings, but for the given ones."""
    chosen = load_method(method).settings | settings
    return [found.scores for found in load_method(method).score(members, train, test, chosen)]


def counted_places(logits: Tensor, label: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Logits (C,) and label () of all that counts of one example, from the logits (1, ...) that the model gives for it alone.

    A classifier has one such place; in a text it is every token but the first that the mask does not leave out.
    """
    if label.dim() == 0:
        return [(logits[0], label)]
    return [(logits[0, place - 1], label[place]) for place in range(1, len(label)) if label[place] >= 0]


def loss_of_one(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy of one example's places, as a textbook has it."""
    return torch.stack([functional.cross_entropy(*place) for place in counted_places(logits, label)]).mean()


def chances_of_one(logits: Tensor, label: Tensor) -> Tensor:
    """Probability p of the label at each of one example's places."""
    return torch.stack([found.softmax(0)[right] for found, right in counted_places(logits, label)])


def margin_of_one(logits: Tensor, label: Tensor) -> Tensor:
    """Mean of log(p / (1 - p)) over one example's places."""
    p = chances_of_one(logits, label)
    return (p / (1 - p)).log().mean()


def surprise_of_one(logits: Tensor, label: Tensor) -> Tensor:
    """Mean of 1 - p over one example's places."""
    return (1 - chances_of_one(logits, label)).mean()


def curvature_of_one(logits: Tensor, label: Tensor) -> Tensor:
    """Second derivative (R, R) of one example's loss by its R logits."""
    return jacrev(grad(lambda flat: loss_of_one(flat.view_as(logits), label)))(logits.flatten())


def examples_of(split: Split) -> list[tuple[Inputs, Tensor]]:
    """Every example as a batch of one, and its label."""
    return [(chosen(split.inputs, slice(i, i + 1)), split.labels[i]) for i in range(len(split))]


def losses(model: nn.Module, split: Split) -> Tensor:
    """Loss of each example (n,), one at a time, without gradients."""
    return values(model, split, loss_of_one)


def values(model: nn.Module, split: Split, function: OfOne) -> Tensor:
    """A function's values (n, ...) of the examples, one at a time, without gradients."""
    with torch.no_grad():
        return torch.stack([function(call(model, inputs), label) for inputs, label in examples_of(split)])


def margins(model: nn.Module, split: Split) -> Tensor:
    """Margin of each example (n,), one at a time, without gradients."""
    return values(model, split, margin_of_one)


def once(reference: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A reference that a process computes once for a model's values and a split's; whoever asks has a copy of its own.

    Models are told apart by what they print, by what is trained and by all values: not by functions that they were given.
    """
    known: dict[tuple, Tensor] = {}

    def found(model: nn.Module, split: Split, *function: OfOne) -> Tensor:
        values = hashlib.sha256(b"".join(value.numpy(force=True).tobytes() for value in model.state_dict().values()))
        key = (str(model), *trained_parameters(model), values.digest(), split.fingerprint, *function)
        if key not in known:
            known[key] = reference(model, split, *function)
        return known[key].clone()

    return found


@once
def naive_gradients(model: nn.Module, split: Split, function: OfOne = loss_of_one) -> Tensor:
    """Gradients (n * R, p) of a function's R numbers by autograd, one example at a time, in the model's precision.

    By default those of the loss, (n, p).
    """
    parameters = list(trained_parameters(model).values())
    rows = []
    for inputs, label in examples_of(split.cast(parameters[0].dtype)):
        for value in function(call(model, inputs), label).flatten():
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


@once
def naive_jacobians(model: nn.Module, split: Split) -> Tensor:
    """Gradients (n, R, p) of all R logits by autograd, one example at a time."""
    flat = flat_parameters(model)
    each = [
        jacrev(lambda values, inputs=inputs: logits_of(model, values, inputs).flatten())(flat)
        for inputs, _ in examples_of(split)
    ]
    return torch.stack(each)


@once
def explicit_hessian(model: nn.Module, split: Split) -> Tensor:
    """The Hessian (p, p) of the mean loss, a row at a time: torch.func's is wrong by the weights of layer norms."""

    def loss(flat: Tensor) -> Tensor:
        logits = logits_of(model, flat, split.inputs)
        each = [loss_of_one(logits[i : i + 1], label) for i, label in enumerate(split.labels)]
        return torch.stack(each).mean()

    return torch.autograd.functional.hessian(loss, flat_parameters(model))


@once
def explicit_gauss_newton(model: nn.Module, split: Split) -> Tensor:
    """The mean of J^T C J, (p, p), C the second derivative of the loss by the logits."""
    total = 0.0
    for (inputs, label), jacobian in zip(examples_of(split), naive_jacobians(model, split), strict=True):
        total = total + jacobian.T @ curvature_of_one(call(model, inputs).detach(), label) @ jacobian
    return total / len(split)


def flat_parameters(model: nn.Module) -> Tensor:
    """All trained parameters end to end (p,)."""
    return torch.cat([parameter.detach().flatten() for parameter in trained_parameters(model).values()])


def logits_of(model: nn.Module, flat: Tensor, inputs: Inputs) -> Tensor:
    """Logits of the model with other parameters (p,)."""
    named = trained_parameters(model)
    pieces = flat.split([parameter.numel() for parameter in named.values()])
    values = {name: piece.view(parameter.shape) for (name, parameter), piece in zip(named.items(), pieces, strict=True)}
    return call(model, inputs, values)


def plain_training(
    model: nn.Module, settings: TrainingPlan, train: Split, batches: list[Tensor], removed: int | None = None
) -> list[nn.Module]:
    """Train as a textbook does, without the removed example's term; copies of the model after every batch."""
    parameters = list(trained_parameters(model).values())
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=False)
    found = []
    for step, batch in enumerate(batches):
        if settings.linear_decay:
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (len(batches) - step) / len(batches)
        optimizer.zero_grad()
        # A batch whose only example is removed has the gradient 0, and Adam steps all the same.
        total = sum(0 * parameter.sum() for parameter in parameters)
        for position in batch.tolist():
            if position != removed:
                logits = call(model, chosen(train.inputs, slice(position, position + 1)))
                total = total + loss_of_one(logits, train.labels[position])
        (total / len(batch)).backward()
        optimizer.step()
        found.append(copy.deepcopy(model))
    return found


def shuffled_batches(generator: torch.Generator, settings: TrainingPlan, num_train: int) -> list[Tensor]:
    """The batches of every epoch, from the generator of a seed's batch order."""
    epochs = [torch.randperm(num_train, generator=generator) for _ in range(settings.epochs)]
    starts = range(0, num_train, settings.batch_size)
    return [order[start : start + settings.batch_size] for order in epochs for start in starts]
