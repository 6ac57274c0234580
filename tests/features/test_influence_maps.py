"""Influence maps: against finite differences of the score in float64, whatever the model, the score and the batching."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tiny_model import build_transformer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vision_transformer import VisionTransformer

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.features.image_passes import pass_maker
from tda.features.influence_maps import Pairs, Smoothing, gradients_of, influence_maps
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.quantities import cross_entropy_loss
from tda.system.errors import UserError


def cnn() -> nn.Module:
    convolution = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, padding_mode="reflect")
    return nn.Sequential(convolution, nn.GELU(), nn.MaxPool2d(2), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3))


def tied_mlp() -> nn.Module:
    shared = nn.Linear(8, 8)
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.Tanh(), shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(8, 3))


def partly_frozen() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 3))
    model[0].bias.requires_grad_(False)
    model[4].weight.requires_grad_(False)
    return model


class WithToken(nn.Module):
    """A parameter that no layer holds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(128))
        self.head = nn.Linear(128, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((images.flatten(1) * self.scale).sin())


def small_resnet() -> nn.Module:
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3, width_per_group=64)
    model.conv1 = nn.Conv2d(2, 64, 3, bias=False)
    return model


def transformer() -> nn.Module:
    model = VisionTransformer(8, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)
    model.conv_proj = nn.Conv2d(2, 8, 4, 4)
    nn.init.normal_(model.heads.head.weight)
    return model


def fine_tuned_transformer() -> nn.Module:
    """Only linear layers are trained, as by LoRA: a direction is a sum of outer products over the tokens."""
    model = transformer()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("mlp" in name or "head" in name)
    return model


MODELS = [cnn, tied_mlp, partly_frozen, WithToken, transformer, fine_tuned_transformer]


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(0)


def examples(count: int) -> Split:
    return Split(torch.randn(count, 2, 8, 8).double(), torch.arange(count) % 3, 7 * torch.arange(count))


def gradient(model: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    """The trained parameters' gradient end to end, by plain automatic differentiation."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = functional.cross_entropy(model(image[None]), label[None])
    return torch.cat([found.flatten() for found in torch.autograd.grad(loss, trained)])


def finite_differences(score: Callable[[Tensor], Tensor], image: Tensor, positions: Sequence[int]) -> Tensor:
    """Central differences of a scalar function with respect to some pixels, extrapolated once (Richardson)."""

    def slope(step: float, position: int) -> Tensor:
        moved = torch.zeros_like(image)
        moved.view(-1)[position] = step
        return (score(image + moved) - score(image - moved)) / (2 * step)

    return torch.stack([(4 * slope(1e-4, position) - slope(2e-4, position)) / 3 for position in positions])


def score_of(model: nn.Module, label: Tensor, other: Tensor, cosine: bool) -> Callable[[Tensor], Tensor]:
    """An image's Grad-Cos or Grad-Dot with a gradient, by plain automatic differentiation."""

    def score(image: Tensor) -> Tensor:
        own = gradient(model, image, label)
        return functional.cosine_similarity(own, other, dim=0) if cosine else own @ other

    return score


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("cosine", [True, False])
def test_maps_are_finite_differences_of_the_score(make: Callable[[], nn.Module], cosine: bool):
    model, train, test = make().double().eval(), examples(2), examples(1)
    pairs = Pairs(torch.tensor([0, 1]), torch.tensor([0, 0]))
    maps = influence_maps(model, train, gradients_of(model, test), pairs, cosine)
    other = gradient(model, test.inputs[0], test.labels[0])
    for position in (0, 1):
        score = score_of(model, train.labels[position], other, cosine)
        expected = finite_differences(score, train.inputs[position], range(128))
        assert (maps[position].flatten() - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("cosine", [True, False])
def test_maps_of_a_vision_transformer_with_adapters_are_finite_differences(tiny_base: Path, cosine: bool):
    model = build_transformer(tiny_base, task_named("digits3"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            # The adapters of a new model are no function of the image yet.
            nn.init.normal_(parameter)
    train, test = (Split(torch.randn(2, 1, 28, 28).double(), torch.tensor([0, 2]), torch.arange(2)) for _ in range(2))
    maps = influence_maps(model, train, gradients_of(model, test), Pairs(torch.tensor([1]), torch.tensor([0])), cosine)
    score = score_of(model, train.labels[1], gradient(model, test.inputs[0], test.labels[0]), cosine)
    sampled = range(0, 784, 41)
    expected = finite_differences(score, train.inputs[1], sampled)
    assert (maps[0].flatten()[sampled] - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("make", [cnn, WithToken])
def test_maps_do_not_depend_on_the_batching(make: Callable[[], nn.Module]):
    model, train, test = make().double().eval(), examples(5), examples(4)
    vectors = gradients_of(model, test)
    # The first image is in more pairs than share a pass.
    pairs = Pairs(torch.tensor([4, 0, 0, 3, 0, 3, 0, 0, 0, 1]), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 1, 2]))
    smoothing = Smoothing(copies=3, deviation=0.2)
    together = influence_maps(model, train, vectors, pairs, True, smoothing, images_at_once=32)
    for at_once in (1, 4):
        found = influence_maps(model, train, vectors, pairs, True, smoothing, images_at_once=at_once)
        torch.testing.assert_close(found, together, rtol=1e-9, atol=1e-12)
    for k in range(len(pairs)):
        alone = influence_maps(model, train, vectors, Pairs(pairs.train[k : k + 1], pairs.test[k : k + 1]), True, smoothing)
        torch.testing.assert_close(alone[0], together[k], rtol=1e-9, atol=1e-12)


def test_a_residual_network_with_overwriting_activations_is_taken_layer_by_layer():
    model, train = small_resnet().double().eval(), examples(3)
    before = [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)]
    found = pass_maker(model, train.inputs[:1], train.labels[:1], cross_entropy_loss)(train.inputs, train.labels)
    # Image by image, the head would not be held as an outer product.
    assert isinstance(found.gradients["fc.weight"], FactoredRows)
    for k in range(3):
        own = {name: part[k].flatten() for name, part in found.gradients.items() if isinstance(part, Tensor)}
        loss = functional.cross_entropy(model(train.inputs[k : k + 1]), train.labels[k : k + 1])
        expected = torch.autograd.grad(loss, [model.get_parameter(name) for name in own])
        torch.testing.assert_close(torch.cat(list(own.values())), torch.cat([part.flatten() for part in expected]))
    assert [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)] == before


def test_a_gradient_of_zero_has_a_map_of_zero():
    model, train = cnn().double().eval(), examples(1)
    vectors = {name: torch.zeros(1, *parameter.shape).double() for name, parameter in model.named_parameters()}
    del vectors["5.bias"]
    inputs, deltas = torch.zeros(1, 1, 1, 16).double(), torch.zeros(1, 1, 1, 1, 3).double()
    vectors["5.weight"] = FactoredRows(inputs, deltas, "5.weight", "5.bias", torch.Size([3, 16]))
    assert not influence_maps(model, train, vectors, Pairs(torch.tensor([0]), torch.tensor([0])), True).any()


def test_smoothing_averages_the_maps_of_noisy_images():
    model, train, test = cnn().double().eval(), examples(1), examples(1)
    vectors, pair = gradients_of(model, test), Pairs(torch.tensor([0]), torch.tensor([0]))
    plain = influence_maps(model, train, vectors, pair, True)
    still = influence_maps(model, train, vectors, pair, True, Smoothing(copies=4, deviation=0.0))
    torch.testing.assert_close(still, plain)
    little = influence_maps(model, train, vectors, pair, True, Smoothing(copies=4, deviation=1e-4))
    assert 0 < (little - plain).norm() < 1e-2 * plain.norm()


class UsedTwice(nn.Module):
    """The classifier's weight is read a second time, beside its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.Tanh()), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(images)
        return self.head(hidden) + functional.linear(hidden**2, self.head.weight)


def test_an_image_that_a_network_is_sure_of_proves_no_account():
    """Its loss has no gradient, so that any account of it would be right."""
    model, train, test = UsedTwice().double(), examples(3), examples(1)
    with torch.no_grad():
        model.head.bias[train.labels[0]] += 800
    alone = Split(train.inputs[1:], train.labels[1:], train.indices[1:])
    vectors = gradients_of(UsedTwice().double(), test)
    found = influence_maps(model, train, vectors, Pairs(torch.tensor([1]), torch.tensor([0])), False)
    torch.testing.assert_close(found, influence_maps(model, alone, vectors, Pairs(torch.tensor([0]), torch.tensor([0])), False))
    direction, step = torch.randn(1, *train.inputs.shape[1:]).double(), 1e-6
    names = [name for name, _ in model.named_parameters()]

    def score(images: Tensor) -> float:
        loss = functional.cross_entropy(model(images), train.labels[1:2])
        gradients = torch.autograd.grad(loss, [model.get_parameter(name) for name in names])
        formed = {name: part.gradients()[name] if isinstance(part, FactoredRows) else part for name, part in vectors.items()}
        return sum(float((gradient * formed[name][0]).sum()) for name, gradient in zip(names, gradients, strict=True))

    slope = (score(train.inputs[1:2] + step * direction) - score(train.inputs[1:2] - step * direction)) / (2 * step)
    assert float((found * direction).sum()) == pytest.approx(slope, rel=1e-4)


def test_maps_of_a_network_that_mixes_images_are_refused():
    class Mixing(UsedTwice):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images - 0.5 * images.mean(dim=0))

    model, train = Mixing().double(), examples(4)
    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        gradients_of(model, train)
