"""A model small enough for explicit matrices, in float64, and the naive references that methods are compared with."""

import copy

import pytest
import torch
from conftest import CPU, SEEDS
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tda.ensembles import seed_run
from tda.many_models import train_many
from tda.members import Member
from tda.methods import METHODS
from tda.models.families import FAMILIES, ModelFamily, new_model
from tda.paths import Experiment
from tda.subsets import Split, load_split
from tda.tasks import Task, task_named
from tda.training_plan import TrainingPlan

TINY = Experiment("tiny", "digits3", 3)
NUM_PARAMETERS = 2 * 25 + 2 + 50 * 4 + 4 + 4 * 3 + 3


def build(task: Task) -> nn.Module:
    """271 parameters in float64: a convolution, a hidden layer and three logits."""
    layers = (nn.Conv2d(1, 2, 5, stride=5), nn.GELU(), nn.Flatten(), nn.Linear(50, 4), nn.GELU(), nn.Linear(4, 3))
    return nn.Sequential(*layers).double()


def plan(task: Task) -> TrainingPlan:
    """Ordinary Adam, but few epochs in small batches, at a rate that moves the model."""
    return TrainingPlan(epochs=6, learning_rate=1e-2, batch_size=4, num_kept_epochs=3)


@pytest.fixture
def tiny(root, monkeypatch: pytest.MonkeyPatch) -> tuple[Split, Split, list[Member]]:
    """9 training and 12 test examples in float64, and the trained members of seed 0 at epochs 4, 5 and 6."""
    monkeypatch.setitem(FAMILIES, "tiny", ModelFamily("tiny", "tiny model", build, plan, "no script"))
    train, test = load_split("digits3", "train", 3), load_split("digits3", "test")
    train = Split(train.images.double(), train.labels, train.indices)
    test = Split(test.images[:12].double(), test.labels[:12], test.indices[:12])
    task = task_named("digits3")
    run = seed_run(TINY, SEEDS[0], len(train))
    ((_, snapshots),) = train_many(new_model(FAMILIES["tiny"], task, 0), plan(task), [run], train, keep_states=True)
    info = {"seed": SEEDS[0]}
    members = [Member(TINY, 0, epoch, found.state, info, CPU) for epoch, found in zip((4, 5, 6), snapshots, strict=True)]
    for member in members:
        assert sum(parameter.numel() for parameter in member.model.parameters()) == NUM_PARAMETERS
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
    parameters = list(model.parameters())
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
    """All parameters end to end (p,)."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def logits_of(model: nn.Module, flat: Tensor, images: Tensor) -> Tensor:
    """Logits of the model with other parameters (p,)."""
    named = dict(model.named_parameters())
    pieces = flat.split([parameter.numel() for parameter in named.values()])
    values = {name: piece.view(parameter.shape) for (name, parameter), piece in zip(named.items(), pieces, strict=True)}
    return functional_call(model, values, (images,))


def plain_training(
    model: nn.Module, settings: TrainingPlan, train: Split, batches: list[Tensor], removed: int | None = None
) -> list[nn.Module]:
    """Train as a textbook does, without the removed example's term; copies of the model after every batch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=False)
    found = []
    for batch in batches:
        optimizer.zero_grad()
        # A batch whose only example is removed has the gradient 0, and Adam steps all the same.
        total = sum(0 * parameter.sum() for parameter in model.parameters())
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
