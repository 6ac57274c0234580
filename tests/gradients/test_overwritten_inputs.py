"""Models that write to what they are given: the data stay, and the numbers are those of a copy."""

import pytest
import torch
from single_examples import CLASSES, WIDTH, assert_gradients_are_those_alone, features, gradients_alone, labels_of, seeded
from torch import Tensor, nn

from tda.data.splits import Split
from tda.features.image_passes import pass_maker
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Classification
from tda.gradients.quantities import cross_entropy_loss
from tda.gradients.representations import penultimate_representations
from tda.system.inputs import call
from tda.training.evaluation import evaluate


class Scaling(nn.Module):
    """Scales each example in place; rarely: only one whose first feature is large, as who divides pixels by 255 does."""

    def __init__(self, rarely: bool = False) -> None:
        super().__init__()
        self.rarely = rarely
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        large = inputs[:, 0] > 1.5
        if not self.rarely:
            inputs.mul_(0.5).add_(1)
        elif large.any():
            inputs[large] /= 255
        return self.head(torch.tanh(self.first(inputs)))


class Masking(nn.Module):
    """Replaces tokens in place."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        input_ids.add_(1).masked_fill_(mask == 0, 0).remainder_(5)
        mask.zero_()
        return self.head(self.embedding(input_ids).mean(1).tanh())


class Between(nn.Module):
    """Overwrites what one module took, whose own gradient needs it no more, before another takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.second, self.head = Shift(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.shift(inputs)
        other = self.second(inputs.mul_(2))
        return self.head(hidden * other.relu_())


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(WIDTH))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.bias


@pytest.mark.parametrize("build", [Scaling, lambda: Scaling(rarely=True), Between])
def test_gradients(build) -> None:
    inputs = features()
    inputs[9, 0], before = 2, inputs.clone()
    before[9, 0] = 2
    assert_gradients_are_those_alone(seeded(build), inputs)
    assert torch.equal(inputs, before)


def test_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = {"input_ids": torch.randint(5, (18, 4), generator=generator)}
    inputs["mask"] = torch.randint(2, (18, 4), generator=generator)
    before = {name: part.clone() for name, part in inputs.items()}
    assert_gradients_are_those_alone(seeded(Masking), inputs)
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)


def test_evaluations_and_representations() -> None:
    model, inputs = seeded(Scaling), features()
    split, before = Split(inputs, labels_of(inputs), torch.arange(len(inputs))), inputs.clone()
    expected = model(inputs.clone())
    for _ in range(2):
        torch.testing.assert_close(evaluate(model, Classification(), split).predictions, expected.argmax(1))
        torch.testing.assert_close(call(model, inputs), expected)
        penultimate_representations(model, inputs)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_sequence_that_begins_with_an_activation_in_place(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 3, 3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    images = torch.randn(5, 2, 6, 6).contiguous(memory_format=memory_format)
    split, before = Split(images, labels_of(images), torch.arange(5)), images.clone()
    expected = cross_entropy_loss(model(images.clone()), split.labels)
    torch.testing.assert_close(evaluate(model, Classification(), split).losses, expected.detach())
    assert torch.equal(images, before)


class InPlaceFirst(nn.Module):
    """A picture that is scaled in place before a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 2, 3), nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.convolution(images.mul_(0.5)).tanh().flatten(1))


def test_gradients_with_respect_to_images() -> None:
    model = seeded(InPlaceFirst)
    images, labels = features(3)[:, :4].repeat(1, 4).view(3, 1, 4, 4), torch.arange(3)
    before = images.clone()
    made = pass_maker(model, images[:1], labels[:1], cross_entropy_loss)(images, labels)
    names = [name for name, _ in model.named_parameters()]
    expected = gradients_alone(model, images, labels, cross_entropy_loss)
    ones = {name: torch.ones(3, *model.get_parameter(name).shape, dtype=torch.float64) for name in names}
    plan_rows = plan_gradients(model, images).rows(images, labels, cross_entropy_loss).dense()
    torch.testing.assert_close(plan_rows, expected)
    leaf = images.clone().requires_grad_()
    loss = cross_entropy_loss(model(leaf.clone()), labels).sum()
    product = sum(part.sum() for part in torch.autograd.grad(loss, list(model.parameters()), create_graph=True))
    torch.testing.assert_close(made.along(ones), torch.autograd.grad(product, leaf)[0])
    assert torch.equal(images, before)


class ActivatedTokens(nn.Module):
    """Overwrites what a layer returned: a view of its product where one example comes, a tensor of its own for several."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.first(inputs.view(-1, 2, 3).transpose(0, 1)).transpose(0, 1)
        return self.head(nn.functional.leaky_relu_(self.second(tokens), 0.2).flatten(1))


@pytest.mark.parametrize("block_size", [1, 7])
def test_an_output_that_is_sometimes_a_view_and_is_overwritten(block_size: int) -> None:
    plan = assert_gradients_are_those_alone(seeded(ActivatedTokens), features(), block_size=block_size)
    assert not plan.whole_model
