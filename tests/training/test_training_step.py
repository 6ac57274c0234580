"""One optimizer step against textbook arithmetic, and in mixed precision."""

from dataclasses import replace

import pytest
import tiny_pairs
import torch
from tiny_texts import CLASSES, TOKENS, LanguageModel, TextClassifier, encode
from torch import Tensor, nn
from torch.nn import functional

from tda.data.splits import Split
from tda.data.tasks import Task
from tda.gradients.objectives import Classification, Pairing
from tda.models.model_state import read_state, trained_parameters
from tda.models.seeded_dropout import SeededDropout
from tda.models.training_plan import TrainingPlan
from tda.training.many_models import train_many
from tda.training.runs import Run
from tda.training.step_noise import StepNoise
from tda.training.training_step import make_optimizer, training_step

TEXTS = [
    "the cat sleeps",
    "a dog runs fast here",
    "the bird sings well",
    "a cat sleeps now",
    "dog",
    "the bird runs not here now",
]
PLAN = TrainingPlan(epochs=2, learning_rate=1e-2, batch_size=4, num_kept_epochs=1, mixed_precision=True)


def texts(task: Task) -> Split:
    inputs, classes = encode(TEXTS), torch.tensor([0, 1, 2, 0, 1, 2])
    return Split(inputs, task.objective.labels(inputs, classes), torch.arange(len(TEXTS)))


def made(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


def test_step_is_that_of_plain_gradient_descent():
    """w <- w - rate (sum of the weighted losses / batch size)', worked out by hand for a linear model."""
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(7, 5, generator=generator, dtype=torch.float64), torch.arange(7) % 3
    model = nn.Linear(5, 3).double()
    before = model.weight.detach().clone(), model.bias.detach().clone()
    plan = TrainingPlan(epochs=1, learning_rate=0.3, weight_decay=0.0, momentum=0.0)
    batch, weights = torch.tensor([6, 1, 3]), torch.tensor([1, 0, 1, 0.5, 1, 1, 2], dtype=torch.float64)
    split = Split(inputs, labels, torch.arange(7))
    training_step(model, make_optimizer(model, plan), Classification(), split, batch, weights)
    probabilities = (inputs[batch] @ before[0].T + before[1]).softmax(1)
    slopes = (probabilities - torch.eye(3, dtype=torch.float64)[labels[batch]]) * weights[batch][:, None] / 3
    torch.testing.assert_close(model.weight.detach(), before[0] - 0.3 * slopes.T @ inputs[batch], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model.bias.detach(), before[1] - 0.3 * slopes.sum(0), rtol=1e-12, atol=1e-14)


def test_padding_that_a_batch_does_not_need_changes_no_step():
    """The step on texts cut to the longest of the batch is that of the loss on all of their padding."""
    split, batch = texts(TOKENS), torch.tensor([0, 3, 4])
    trained, plain = made(LanguageModel).double(), made(LanguageModel).double()
    plan = TrainingPlan(epochs=1, learning_rate=0.1, weight_decay=0.0, momentum=0.0)
    training_step(trained, make_optimizer(trained, plan), TOKENS.objective, split, batch, None)
    assert int(split.inputs["attention_mask"][batch].sum(1).max()) == 4 < split.labels.shape[1]
    optimizer = make_optimizer(plain, plan)
    inputs = {name: part[batch] for name, part in split.inputs.items()}
    TOKENS.objective.loss(plain(**inputs), split.labels[batch]).mean().backward()
    optimizer.step()
    for left, right in zip(trained.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_only_what_is_trained_is_stepped():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, TrainingPlan(epochs=1))
    assert [id(parameter) for group in optimizer.param_groups for parameter in group["params"]] == [
        id(model[1].weight),
        id(model[1].bias),
    ]


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Of a batch, each text's mean over its counted tokens."""
    if labels.dim() == 1:
        return functional.cross_entropy(logits, labels)
    each = functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100)
    return (each.sum(1) / (labels[:, 1:] >= 0).sum(1)).mean()


@pytest.mark.parametrize(("kind", "task"), [(TextClassifier, CLASSES), (LanguageModel, TOKENS)])
def test_texts_are_trained_in_mixed_precision(kind: type[nn.Module], task: Task):
    """Token ids stay integers, the forward pass is in bfloat16, and the loss in float32: as a plain loop under autocast."""
    split, batches = texts(task), PLAN.batches(1, len(TEXTS))
    run = Run(read_state(made(kind)), batches, [len(batches)], seed=1)
    ((_, (mixed,)),) = train_many(made(kind, 5), PLAN, task.objective, [run], split, keep_states=True)
    plain = replace(PLAN, mixed_precision=False)
    ((_, (exact,)),) = train_many(made(kind, 5), plain, task.objective, [run], split, keep_states=True)
    model = made(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=PLAN.learning_rate, weight_decay=PLAN.weight_decay, fused=True)
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**{name: part[batch] for name, part in split.inputs.items()})
        assert logits.dtype == torch.bfloat16
        mean_loss(logits.float(), split.labels[batch]).backward()
        optimizer.step()
    differences = []
    for name, parameter in trained_parameters(model).items():
        found = mixed.state.parameters[name]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, parameter.detach(), rtol=1e-4, atol=1e-5)
        differences.append(float((found - exact.state.parameters[name]).abs().max()))
    assert 1e-5 < max(differences) < 0.05


class Watched(Classification):
    """Notes the precision of the logits that the loss sees."""

    def __init__(self) -> None:
        self.__dict__["seen"] = []

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss itself."""
        self.seen.append(logits.dtype)
        return super().loss(logits, labels)


@pytest.mark.parametrize(
    ("dtype", "mixed", "expected"),
    [
        (torch.float32, True, torch.float32),
        (torch.float32, False, torch.float32),
        (torch.float64, False, torch.float64),
        (torch.bfloat16, False, torch.float32),
    ],
)
def test_loss_sees_logits_of_at_least_four_bytes(dtype: torch.dtype, mixed: bool, expected: torch.dtype):
    split, objective, model = texts(CLASSES), Watched(), made(TextClassifier).to(dtype)
    optimizer = make_optimizer(model, TrainingPlan(epochs=1))
    training_step(model, optimizer, objective, split, torch.arange(3), None, StepNoise(0, 1, mixed_precision=mixed))
    assert objective.seen == [expected]


def test_dropout_is_on_with_noise_alone():
    def stepped(noise: StepNoise | None, p: float) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(SeededDropout(p), nn.Linear(5, 3))
        split = Split(torch.ones(4, 5), torch.zeros(4).long(), torch.arange(4))
        plan = TrainingPlan(epochs=1, learning_rate=0.1, momentum=0.0)
        training_step(model, make_optimizer(model, plan), Classification(), split, torch.arange(4), None, noise)
        return model[1].weight.detach()

    plain, noise = stepped(None, 0.0), StepNoise(0, 1)
    assert torch.equal(stepped(None, 0.5), plain) and torch.equal(stepped(noise, 0.0), plain)
    assert not torch.equal(stepped(noise, 0.5), plain)


def test_a_pair_that_is_left_out_is_not_compared_with_either():
    """As if the batch had been drawn without it, but for the divisor, which stays the whole batch's."""
    inputs = tiny_pairs.TASK.kind.inputs(tiny_pairs.pairs("train").examples)
    train = Split(inputs, torch.zeros(40, 2, dtype=torch.int64), torch.arange(40))
    plan, weights = TrainingPlan(1, learning_rate=0.1, momentum=0.0, weight_decay=0.0), torch.ones(40)
    weights[[4, 9]] = 0
    states = []
    for batch, counted in ((torch.tensor([1, 4, 7, 9]), weights), (torch.tensor([1, 7]), None)):
        torch.manual_seed(0)
        model = tiny_pairs.two_towers()
        start = read_state(model)
        optimizer = make_optimizer(model, plan)
        training_step(model, optimizer, Pairing(), train, batch, counted, StepNoise(0, 1))
        states.append((start, read_state(model)))
    for name, before in states[0][0].parameters.items():
        moved, alone = (after.parameters[name] - before for _, after in states)
        torch.testing.assert_close(2 * moved, alone, rtol=1e-4, atol=1e-6)
    all_gone = torch.zeros(40)
    training_step(model, optimizer, Pairing(), train, torch.tensor([1, 2]), all_gone, StepNoise(0, 2))
    for name, after in read_state(model).parameters.items():
        torch.testing.assert_close(after, states[1][1].parameters[name])
