"""EK-FAC against its definition with explicit Kronecker products, loops and float64 autograd."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import CPU, Ensemble
from tiny_model import naive_gradients, score
from torch import Tensor, nn
from torch.nn import functional

from tda.curvature.kronecker_factors import factored_plan
from tda.data.splits import Split
from tda.gradients import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.methods import ekfac as module
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.training.members import Member

EVERY_FAMILY = True


def per_class_gradients(layer: nn.Module, model: nn.Module, image: Tensor, label: int | None) -> list[tuple[float, Tensor]]:
    """(weight, gradient (O, K + 1) of one layer) for the label, or for every label with its probability."""
    logits = model(image[None])[0]
    probabilities = logits.softmax(0).detach()
    labels = range(len(logits)) if label is None else [label]
    found = []
    for chosen in labels:
        loss = functional.cross_entropy(logits[None], torch.tensor([chosen]))
        gradients = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
        joined = torch.cat([gradient.reshape(len(gradient), -1) for gradient in gradients], dim=1)
        found.append((1.0 if label is not None else float(probabilities[chosen]), joined))
    return found


def covariances(layer: nn.Module, model: nn.Module, split: Split, empirical: bool) -> tuple[Tensor, Tensor]:
    """Sums over examples, labels and positions of a a^T, with 1 for the bias, and d d^T."""
    kept = {}
    first = layer.register_forward_hook(lambda _, arguments, output: kept.update(a=arguments[0], z=output))
    left, right = 0, 0
    for image, label in zip(split.inputs, split.labels, strict=True):
        logits = model(image[None])
        inputs = kept["a"].detach()
        if isinstance(layer, nn.Conv2d):
            inputs = functional.unfold(inputs, layer.kernel_size, stride=layer.stride)[0].T
        inputs = inputs.reshape(-1, inputs.shape[-1])
        if layer.bias is not None:
            inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        left = left + inputs.T @ inputs
        probabilities = logits[0].softmax(0).detach()
        for chosen in [int(label)] if empirical else range(len(probabilities)):
            loss = functional.cross_entropy(logits, torch.tensor([chosen]))
            (delta,) = torch.autograd.grad(loss, kept["z"], retain_graph=True)
            delta = delta[0].reshape(len(layer.weight), -1) if isinstance(layer, nn.Conv2d) else delta.flatten(0, -2).T
            right = right + (1.0 if empirical else probabilities[chosen]) * delta @ delta.T
    first.remove()
    return left, right


def naive_ekfac(model: nn.Module, train: Split, test: Split, matrix: str, damping: float | None) -> Tensor:
    total = torch.zeros(len(train), len(test), dtype=torch.float64)
    empirical = matrix == "empirical_fisher"
    for layer in [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d) and part.weight.requires_grad]:
        left, right = covariances(layer, model, train, empirical)
        input_vectors, output_vectors = torch.linalg.eigh(left)[1], torch.linalg.eigh(right)[1]
        values = torch.zeros(len(output_vectors), len(input_vectors), dtype=torch.float64)
        for image, label in zip(train.inputs, train.labels, strict=True):
            for weight, gradient in per_class_gradients(layer, model, image, int(label) if empirical else None):
                values += weight * (output_vectors.T @ gradient @ input_vectors).square() / len(train)
        added = 0.1 * values.mean() if damping is None else damping
        rotated = []
        for split in (train, test):
            each = [
                per_class_gradients(layer, model, image, int(label))[0][1]
                for image, label in zip(split.inputs, split.labels, strict=True)
            ]
            rotated.append(torch.stack([(output_vectors.T @ gradient @ input_vectors).flatten() for gradient in each]))
        total += rotated[0] / (values.flatten() + added) @ rotated[1].T
    return total


@pytest.mark.parametrize("matrix", ["fisher", "empirical_fisher"])
@pytest.mark.parametrize("damping", [None, 0.02])
def test_matches_the_definition(tiny, monkeypatch, matrix: str, damping: float | None):
    train, test, members = tiny
    expected = naive_ekfac(members[-1].model, train, test, matrix, damping)
    for block, held in ((64, 2**28), (4, 2**28), (4, 1)):
        monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", block)
        monkeypatch.setattr(module, "_HELD_NUMBERS", held)
        (found,) = load_method("ekfac").score(members[-1:], train, test, {"matrix": matrix, "damping": damping})
        torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
        assert found.report["parameters_left_out"] == []


def test_large_damping_gives_grad_dot(tiny):
    train, test, members = tiny
    (found,) = score("ekfac", members[:1], train, test, damping=1e6)
    expected = naive_gradients(members[0].model, train) @ naive_gradients(members[0].model, test).T
    torch.testing.assert_close(found * 1e6, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_float32_on_a_real_member_matches_float64(ensemble: Ensemble):
    (member,) = ensemble.members(15)
    (found,) = score("ekfac", [member], ensemble.train, ensemble.test)
    exact = replace(member, cache={})
    exact.__dict__["model"] = copy.deepcopy(member.model).double()
    train, test = (replace(split, images=split.inputs.double()) for split in (ensemble.train, ensemble.test))
    (expected,) = score("ekfac", [exact], train, test)
    assert float((found.double() - expected).norm() / expected.norm()) < 1e-3


def member_of(model: nn.Module, member: Member) -> Member:
    changed = replace(member, cache={}, device=CPU)
    changed.__dict__["model"] = model
    return changed


def test_other_layers_are_left_out_and_named(tiny):
    train, test, members = tiny
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 5, stride=5), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv2d(4, 4, 2, groups=2, bias=False))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3)).double()
    (found,) = load_method("ekfac").score([member_of(model, members[0])], train, test, {"matrix": "fisher", "damping": 1e6})
    assert found.report["parameters_left_out"] == ["1.weight", "1.bias"]
    covered = [name for name in dict(model.named_parameters()) if not name.startswith("1.")]
    gradients = []
    for split in (train, test):
        rows = []
        for image, label in zip(split.inputs, split.labels, strict=True):
            loss = functional.cross_entropy(model(image[None]), label[None])
            each = torch.autograd.grad(loss, [model.get_parameter(name) for name in covered])
            rows.append(torch.cat([gradient.flatten() for gradient in each]))
        gradients.append(torch.stack(rows))
    expected = gradients[0] @ gradients[1].T
    torch.testing.assert_close(found.scores * 1e6, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_model_without_linear_layers_is_refused():
    model = nn.Sequential(nn.LayerNorm(4))
    with pytest.raises(UserError, match="linear layers or convolutions"):
        factored_plan(plan_gradients(model, torch.randn(3, 4)))


def test_settings_are_checked(ensemble: Ensemble):
    with pytest.raises(UserError, match="unknown curvature matrix hessian; known ones are empirical_fisher, fisher"):
        score("ekfac", ensemble.members(15), ensemble.train, ensemble.test, matrix="hessian")
    with pytest.raises(UserError, match="damping of EK-FAC must be positive"):
        score("ekfac", ensemble.members(15), ensemble.train, ensemble.test, damping=0.0)
