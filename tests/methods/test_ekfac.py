"""EK-FAC against its definition with explicit Kronecker products, loops and float64 autograd."""

import copy
from dataclasses import dataclass, field, replace

import pytest
import torch
from conftest import Ensemble, for_some
from tiny_model import counted_places, examples_of, loss_of_one, naive_gradients, score
from torch import Tensor, nn
from torch.nn import functional

from tda.curvature import kronecker_factors as factors_module
from tda.curvature import kronecker_scores
from tda.curvature.factored_blocks import FactoredBlocks, RotatedBlocks
from tda.curvature.kronecker_factors import factored_plan
from tda.data.splits import Split
from tda.gradients import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.methods import ekfac as module
from tda.methods.registry import load_method
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.members import Member

EVERY_FAMILY = True


def covered_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that have factors: linear layers and convolutions that are trained."""
    kinds = nn.Linear | nn.Conv2d
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds) and layer.weight.requires_grad}


def covered_gradients(model: nn.Module, split: Split) -> Tensor:
    """Loss gradients (n, p) of those layers' parameters."""
    gradients = naive_gradients(model, split)
    parameters = trained_parameters(model)
    pieces = dict(zip(parameters, gradients.split([part.numel() for part in parameters.values()], dim=1), strict=True))
    layers = covered_layers(model)
    return torch.cat([piece for name, piece in pieces.items() if name.rpartition(".")[0] in layers], dim=1)


def weighted_losses(logits: Tensor, label: Tensor, matrix: str) -> list[tuple[float, Tensor]]:
    """(weight, loss) of an example: its own, or one for every label that each of its places could have, by probability.

    Of drawn labels, whose places do not mix in expectation, the sum of losses over the number of places.
    """
    if matrix != "fisher":
        return [
            (1.0 if matrix == "empirical_fisher" else float(len(counted_places(logits, label))), loss_of_one(logits, label))
        ]
    places = [found for found, _ in counted_places(logits, label)]
    return [
        (float(found.detach().softmax(0)[other]) / len(places), functional.cross_entropy(found, torch.tensor(other)))
        for found in places
        for other in range(len(found))
    ]


@dataclass
class Collected:
    """One layer's sums over examples, labels and positions of a a^T, with 1 for the bias, and d d^T; gradients (O, K + 1)."""

    inputs: Tensor | float = 0.0
    outputs: Tensor | float = 0.0
    gradients: list[tuple[float, Tensor]] = field(default_factory=list)

    def add_inputs(self, layer: nn.Module, inputs: Tensor, counted: Tensor | None) -> None:
        """The inputs of one example, or of some of its positions alone."""
        if isinstance(layer, nn.Conv2d):
            inputs = functional.unfold(inputs, layer.kernel_size, stride=layer.stride)[0].T
        inputs = inputs.reshape(-1, inputs.shape[-1])
        if layer.bias is not None:
            inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        inputs = inputs if counted is None else inputs[counted]
        self.inputs = self.inputs + inputs.T @ inputs

    def add_loss(self, weight: float, layer: nn.Module, delta: Tensor, gradients: list[Tensor]) -> None:
        """The derivatives of one example's weighted loss by the layer's outputs and parameters."""
        delta = delta[0].reshape(len(layer.weight), -1) if isinstance(layer, nn.Conv2d) else delta.flatten(0, -2).T
        self.outputs = self.outputs + weight * delta @ delta.T
        self.gradients.append((weight, torch.cat([gradient.reshape(len(gradient), -1) for gradient in gradients], dim=1)))


def collected(model: nn.Module, split: Split, matrix: str) -> list[Collected]:
    """What autograd says of every covered layer, one example and label at a time."""
    layers, kept = list(covered_layers(model).values()), {}
    handles = [
        layer.register_forward_hook(lambda layer, arguments, output: kept.update({layer: (arguments[0].detach(), output)}))
        for layer in layers
    ]
    found = [Collected() for _ in layers]
    for example, label in examples_of(split):
        logits = call(model, example)
        wanted = [tensor for layer in layers for tensor in (kept[layer][1], *layer.parameters())]
        reached = {layer: torch.zeros(()) for layer in layers}
        for weight, loss in weighted_losses(logits, label, matrix):
            pieces = iter(torch.autograd.grad(loss, wanted, retain_graph=True))
            for of_layer, layer in zip(found, layers, strict=True):
                delta = next(pieces)
                of_layer.add_loss(weight, layer, delta, [next(pieces) for _ in layer.parameters()])
                reached[layer] = reached[layer] + delta.abs().flatten(0, -2).sum(dim=1)
        for of_layer, layer in zip(found, layers, strict=True):
            # Of a text with padding those positions count on which a loss depends.
            of_layer.add_inputs(layer, kept[layer][0], reached[layer] > 0 if hasattr(model, "ignores_padding") else None)
    for handle in handles:
        handle.remove()
    return found


def naive_ekfac(
    model: nn.Module, train: Split, test: Split, matrix: str, damping: float | None, drawn: Split | None = None
) -> Tensor:
    total = torch.zeros(len(train), len(test), dtype=torch.float64)
    of_loss = [collected(model, split, "empirical_fisher") for split in (train, test)]
    fitted = of_loss[0] if matrix == "empirical_fisher" else collected(model, drawn or train, matrix)
    for factors, *sides in zip(fitted, *of_loss, strict=True):
        input_vectors, output_vectors = torch.linalg.eigh(factors.inputs)[1], torch.linalg.eigh(factors.outputs)[1]
        squares = [weight * (output_vectors.T @ gradient @ input_vectors).square() for weight, gradient in factors.gradients]
        values = torch.stack(squares).sum(dim=0) / len(train)
        added = 0.1 * values.mean() if damping is None else damping
        left, right = (
            torch.stack([(output_vectors.T @ gradient @ input_vectors).flatten() for _, gradient in side.gradients])
            for side in sides
        )
        total += left / (values.flatten() + added) @ right.T
    return total


@pytest.mark.parametrize("matrix", ["fisher", "empirical_fisher", "sampled_fisher"])
@pytest.mark.parametrize("damping", [None, for_some(0.02)])
def test_matches_the_definition(tiny, monkeypatch, matrix: str, damping: float | None):
    train, test, members = tiny
    model = members[-1].model
    drawn = replace(train, labels=module._drawn_labels(members[-1], train)) if matrix == "sampled_fisher" else None
    expected = naive_ekfac(model, train, test, matrix, damping, drawn)
    layers = covered_layers(model)
    left_out = [name for name in trained_parameters(model) if name.rpartition(".")[0] not in layers]
    for block, held in ((64, 2**28), (4, 2**28), (4, 1)):
        monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", block)
        monkeypatch.setattr(kronecker_scores, "HELD_NUMBERS", held)
        monkeypatch.setattr(kronecker_scores, "_FORMED_NUMBERS", held)
        monkeypatch.setattr(factors_module, "_FORMED_AT_ONCE", held)
        (found,) = load_method("ekfac").score(members[-1:], train, test, {"matrix": matrix, "damping": damping})
        torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
        assert found.report["parameters_left_out"] == left_out


def test_large_damping_gives_grad_dot_of_the_covered_layers(tiny):
    train, test, members = tiny
    (found,) = score("ekfac", members[:1], train, test, damping=1e6)
    expected = covered_gradients(members[0].model, train) @ covered_gradients(members[0].model, test).T
    torch.testing.assert_close(found * 1e6, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_only_embeddings_and_norms_of_a_text_model_are_left_out(tiny):
    train, test, members = tiny
    (found,) = load_method("ekfac").score(members[:1], train, test, load_method("ekfac").settings)
    model = members[0].model
    holders = {name: type(model.get_submodule(name.rpartition(".")[0])).__name__ for name in trained_parameters(model)}
    others = {name: kind for name, kind in holders.items() if kind not in ("Linear", "Conv2d")}
    adapted = all("lora_" in name for name in holders)
    assert found.report["parameters_left_out"] == list(others)
    assert bool(others) == (isinstance(train.inputs, dict) and not adapted)
    assert set(others.values()) <= {"Embedding", "LayerNorm", "RMSNorm"}


def test_float32_on_a_real_member_matches_float64(ensemble: Ensemble):
    (member,) = ensemble.members(15)
    (found,) = score("ekfac", [member], ensemble.train, ensemble.test)
    exact = member_of(copy.deepcopy(member.model).double(), member)
    (expected,) = score("ekfac", [exact], ensemble.train.cast(torch.float64), ensemble.test.cast(torch.float64))
    assert float((found.double() - expected).norm() / expected.norm()) < 1e-3


def member_of(model: nn.Module, member: Member) -> Member:
    changed = replace(member, cache={})
    changed.__dict__["model"] = model
    return changed


@pytest.mark.parametrize("swapped", [False, True])
def test_gradients_held_in_lots_and_sides_of_layers_give_the_same(tiny, swapped: bool):
    train, test, members = tiny
    model, loss = members[0].model, members[0].objective.loss
    plan = factored_plan(plan_gradients(model, train.inputs))
    factors, (of_train,) = factors_module.factors_and_rotated([FactoredBlocks(plan, train, loss)])
    of_test = RotatedBlocks(FactoredBlocks(plan, test, loss), factors)
    inverses = [1 / (layer.eigenvalues + 0.1 * layer.mean) for layer in factors]
    few, many = (of_test, of_train) if swapped else (of_train, of_test)
    found = [kronecker_scores._formed(inverses, few, many, at_once) for at_once in (2, 100)]
    found.append(kronecker_scores._layer_by_layer(inverses, few, many))
    for scores in found[1:]:
        torch.testing.assert_close(scores, found[0], rtol=1e-9, atol=1e-12 * float(found[0].abs().max()))
    # Outputs of a layer that no training gradient reaches are left out where its vectors are fewer than it is wide.
    assert all(layer.outputs.shape[2] <= layer.outputs.shape[1] for layer in factors)


def test_drawn_labels_are_the_seeds_own(tiny):
    train, _, members = tiny
    drawn = module._drawn_labels(members[0], train)
    assert drawn.shape == train.labels.shape and torch.equal(drawn < 0, train.labels < 0)
    assert torch.equal(drawn, module._drawn_labels(members[0], train))
    others = module._drawn_labels(replace(members[0], seed_id=1), train)
    assert not torch.equal(drawn, others)


@pytest.mark.families("cnn")
def test_an_exact_expectation_over_too_many_logits_is_refused(tiny, monkeypatch: pytest.MonkeyPatch):
    train, test, members = tiny
    monkeypatch.setattr(module, "MOST_ROOTS", 1)
    with pytest.raises(UserError, match="one example has 2 roots, .* choose --ekfac.matrix sampled_fisher"):
        score("ekfac", members[:1], train, test)


@pytest.mark.families("cnn")
def test_other_layers_are_left_out_and_named(tiny):
    train, test, members = tiny
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 5, stride=5), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv2d(4, 4, 2, groups=2, bias=False))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3)).double()
    (found,) = load_method("ekfac").score([member_of(model, members[0])], train, test, {"matrix": "fisher", "damping": 1e6})
    assert found.report["parameters_left_out"] == ["1.weight", "1.bias"]
    expected = covered_gradients(model, train) @ covered_gradients(model, test).T
    torch.testing.assert_close(found.scores * 1e6, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


class Bypassed(nn.Module):
    """A layer whose output counts nothing, as that of an expert to which no example is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.dead, self.head = nn.Linear(784, 2), nn.Linear(784, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)) + 0 * self.dead(images.flatten(1)).sum(dim=1, keepdim=True)


@pytest.mark.families("cnn")
def test_a_layer_that_nothing_reaches_adds_nothing(tiny):
    train, test, members = tiny
    torch.manual_seed(0)
    model = Bypassed().double()
    alone = nn.Sequential(nn.Flatten(), model.head)
    found = [score("ekfac", [member_of(each, members[0])], train, test)[0] for each in (model, alone)]
    assert torch.isfinite(found[1]).all() and found[1].abs().max() > 0
    torch.testing.assert_close(*found)


def test_model_without_linear_layers_is_refused():
    model = nn.Sequential(nn.LayerNorm(4))
    with pytest.raises(UserError, match="linear layers or convolutions"):
        factored_plan(plan_gradients(model, torch.randn(3, 4)))


def test_settings_are_checked(ensemble: Ensemble):
    with pytest.raises(UserError, match="unknown curvature matrix hessian; known ones are empirical_fisher, fisher"):
        score("ekfac", ensemble.members(15), ensemble.train, ensemble.test, matrix="hessian")
    with pytest.raises(UserError, match="damping of EK-FAC must be positive"):
        score("ekfac", ensemble.members(15), ensemble.train, ensemble.test, damping=0.0)
