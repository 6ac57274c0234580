"""A model small enough for explicit matrices, in float64, and the naive references that methods are compared with."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import CPU, SEEDS
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tda.data.splits import Split, load_split
from tda.data.tasks import Task, task_named
from tda.experiments.folders import Experiment
from tda.methods import METHODS
from tda.models.families import FAMILIES, ModelFamily, new_model
from tda.models.lora import adapted
from tda.models.model_state import trained_parameters
from tda.models.training_plan import TrainingPlan
from tda.models.vit_base import load_base, silence_transformers
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member

TINY = Experiment("tiny", "digits3", 3)
NUM_PARAMETERS = {"cnn": 2 * 25 + 2 + 50 * 4 + 4 + 4 * 3 + 3, "vit": 2 * 2 * 2 * 2 * 8 + 8 * 3 + 3}


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


def plan(task: Task) -> TrainingPlan:
    """Ordinary Adam, but few epochs in small batches, at a rate that moves the model."""
    return TrainingPlan(epochs=6, learning_rate=1e-2, batch_size=4, num_kept_epochs=3)


def decaying_plan(task: Task) -> TrainingPlan:
    """The same with the rate falling to 0."""
    return replace(plan(task), linear_decay=True)


@pytest.fixture
def tiny(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Split, Split, list[Member]]:
    """9 training and 12 test examples in float64, and the trained members of seed 0 at epochs 4, 5 and 6."""
    kind = getattr(request, "param", "cnn")
    how = (build, plan)
    if kind == "vit":
        how = (partial(build_transformer, request.getfixturevalue("tiny_base")), decaying_plan)
    monkeypatch.setitem(FAMILIES, "tiny", ModelFamily("tiny", "tiny model", *how, "no script"))
    train, test = load_split("digits3", "train", 3), load_split("digits3", "test")
    train = Split(train.images.double(), train.labels, train.indices)
    test = Split(test.images[:12].double(), test.labels[:12], test.indices[:12])
    task = task_named("digits3")
    run = seed_run(TINY, SEEDS[0], len(train))
    settings = FAMILIES["tiny"].plan(task)
    ((_, snapshots),) = train_many(new_model(FAMILIES["tiny"], task, 0), settings, [run], train, keep_states=True)
    info = {"seed": SEEDS[0]}
    members = [Member(TINY, 0, epoch, found.state, info, CPU) for epoch, found in zip((4, 5, 6), snapshots, strict=True)]
    for member in members:
        assert len(flat_parameters(member.model)) == NUM_PARAMETERS[kind]
    return train, test, members


def score(method: str, members: list[Member], train: Split, test: Split, **settings) -> list[Tensor]:
    """Scores of each member by a registered method with its default settings, but for the given ones."""
    chosen = METHODS[method].settings | settings
    return [found.scores for found in METHODS[method].score(members, train, test, chosen)]


def losses(model: nn.Module, split: Split) -> Tensor:
    """Cross-entropy of each example, one at a time, without gradients."""
    with torch.no_grad():
        pairs = zip(split.images, split.labels, strict=True)
        return torch.stack([functional.cross_entropy(model(image[None]), label[None]) for image, label in pairs])


def naive_gradients(model: nn.Module, split: Split) -> Tensor:
    """Loss gradients (n, p) by autograd, one example at a time, in the model's precision."""
    parameters = list(trained_parameters(model).values())
    rows = []
    for image, label in zip(split.images, split.labels, strict=True):
        loss = functional.cross_entropy(model(image[None].to(parameters[0].dtype)), label[None])
        rows.append(torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def explicit_hessian(model: nn.Module, split: Split) -> Tensor:
    """The Hessian (p, p) of the mean loss."""

    def loss(flat: Tensor) -> Tensor:
        return functional.cross_entropy(logits_of(model, flat, split.images), split.labels)

    return torch.func.hessian(loss)(flat_parameters(model))


def explicit_gauss_newton(model: nn.Module, split: Split) -> Tensor:
    """The mean of J^T (diag(p) - p p^T) J, (p, p)."""
    flat = flat_parameters(model)
    jacobians = torch.func.jacrev(lambda values: logits_of(model, values, split.images))(flat)
    total = torch.zeros(len(flat), len(flat), dtype=flat.dtype)
    for jacobian, logits in zip(jacobians, logits_of(model, flat, split.images), strict=True):
        p = logits.softmax(0)
        total += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(split)


def flat_parameters(model: nn.Module) -> Tensor:
    """All trained parameters end to end (p,)."""
    return torch.cat([parameter.detach().flatten() for parameter in trained_parameters(model).values()])


def logits_of(model: nn.Module, flat: Tensor, images: Tensor) -> Tensor:
    """Logits of the model with other parameters (p,)."""
    named = trained_parameters(model)
    pieces = flat.split([parameter.numel() for parameter in named.values()])
    values = {name: piece.view(parameter.shape) for (name, parameter), piece in zip(named.items(), pieces, strict=True)}
    return functional_call(model, values, (images,))


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
                logits = model(train.images[position : position + 1])
                total = total + functional.cross_entropy(logits, train.labels[position : position + 1])
        (total / len(batch)).backward()
        optimizer.step()
        found.append(copy.deepcopy(model))
    return found


def shuffled_batches(generator: torch.Generator, settings: TrainingPlan, num_train: int) -> list[Tensor]:
    """The batches of every epoch, from the generator of a seed's batch order."""
    epochs = [torch.randperm(num_train, generator=generator) for _ in range(settings.epochs)]
    starts = range(0, num_train, settings.batch_size)
    return [order[start : start + settings.batch_size] for order in epochs for start in starts]
