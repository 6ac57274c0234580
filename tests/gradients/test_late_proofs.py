"""Parameters of which the first examples prove nothing, and models that differentiate on their way."""

from pathlib import Path

import pytest
import torch
from single_examples import CLASSES, WIDTH, assert_gradients_are_those_alone, features, labels_of, seeded
from torch import Tensor, nn

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.quantities import all_logits, contrast_roots, cross_entropy_loss
from tda.system.errors import UserError
from tda.trak import TRAKer


class Gated(nn.Module):
    """A branch behind a gate, whose layer gives twice what its formula says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.gate = nn.Parameter(torch.zeros(1))
        self.branch.register_forward_hook(lambda module, arguments, output: 2 * output)

    def opened(self, inputs: Tensor) -> Tensor:
        return self.gate

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).tanh()
        return self.head(hidden + self.opened(inputs) * self.branch(hidden).tanh())


class GatedByInputs(Gated):
    def opened(self, inputs: Tensor) -> Tensor:
        return inputs[:, :1].relu() + 0 * self.gate


@pytest.mark.parametrize("block_size", [4, 18])
def test_a_layer_that_no_example_of_the_probe_reaches(block_size: int) -> None:
    """Its wrong formula is found out by the first example that does."""
    inputs = features()
    inputs[0, 0] = inputs[-1, 0] = inputs[:5, 0] = -1
    inputs[9, 0] = 1
    assert_gradients_are_those_alone(seeded(GatedByInputs), inputs, block_size=block_size)


def rows_of_second(model: nn.Module, states: list[dict[str, Tensor]], folder: Path) -> Tensor:
    """Projected gradients of the last checkpoint by a TRAKer that has seen the ones before."""
    inputs = features()
    traker = TRAKer(model, "image_classification", len(inputs), folder, device="cpu", proj_dim=32)
    for model_id, state in enumerate(states):
        traker.load_checkpoint(state, model_id)
        traker.featurize((inputs, labels_of(inputs)), num_samples=len(inputs))
    return torch.from_numpy(traker.saver.current_store["grads"].copy())


def test_a_gate_that_opens_in_the_second_checkpoint(tmp_path: Path) -> None:
    model = seeded(Gated)
    shut = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    opened = shut | {"gate": torch.ones_like(shut["gate"])}
    after_shut = rows_of_second(model, [shut, opened], tmp_path / "after shut")
    # What an open gate shows from the first checkpoint on, the proof finds out.
    torch.testing.assert_close(after_shut, rows_of_second(model, [opened, opened], tmp_path / "after open"))
    assert_gradients_are_those_alone(model, features())


class MixingAttention(nn.Module):
    """Attention over the batch, for want of batch_first, behind a projection that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention, self.head = nn.Linear(2, 4), nn.MultiheadAttention(4, 2), nn.Linear(4, CLASSES)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs.view(-1, WIDTH // 2, 2))
        return self.head((hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0]).mean(dim=1))


def test_mixing_that_starts_in_the_second_checkpoint_is_refused(tmp_path: Path) -> None:
    model = seeded(MixingAttention)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight = "attention.out_proj.weight"
    later = start | {weight: torch.eye(4, dtype=start[weight].dtype)}
    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        rows_of_second(model, [start, later], tmp_path)


class Energy(nn.Module):
    """Forces: the derivative of an energy by its inputs."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.net, self.always = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 1)), always

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.always or torch.is_grad_enabled()):
            inputs = inputs.requires_grad_()
            return torch.autograd.grad(self.net(inputs).sum(), inputs, create_graph=True)[0][:, :CLASSES]


class MappedHeads(nn.Module):
    """One layer mapped over parts of the inputs by torch.vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.head = nn.Linear(WIDTH // 2, 4), nn.Linear(8, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        parts = torch.vmap(self.part, in_dims=1, out_dims=1)(inputs.view(-1, 2, WIDTH // 2))
        return self.head(parts.flatten(1).tanh())


@pytest.mark.parametrize("build", [lambda: Energy(True), lambda: Energy(False), MappedHeads])
def test_models_that_differentiate_or_map_on_their_way(build) -> None:
    assert_gradients_are_those_alone(seeded(build), features(), quantities=(cross_entropy_loss, all_logits))


class Tempered(nn.Module):
    """A temperature of another precision than the layer."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.temperature = nn.Linear(WIDTH, CLASSES), nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * self.temperature.abs()


def test_a_parameter_of_another_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs, model = features().float(), Tempered(torch.float64)
    traker = TRAKer(model, "image_classification", len(inputs), tmp_path, device="cpu", proj_dim=32)
    traker.load_checkpoint(model.state_dict(), 0)
    traker.featurize((inputs, labels_of(inputs)), num_samples=len(inputs))
    traker.finalize_features()


def test_a_complex_parameter_is_refused() -> None:
    model, inputs = Tempered(torch.complex64), features().float()
    batch = inputs, labels_of(inputs)
    with pytest.raises(UserError, match="the parameter 'temperature' is complex"):
        gradient_kernel(model, batch, batch)
    gradient_kernel(model, batch, batch, parameters=["layer.weight"])


def test_labels_made_in_inference_mode() -> None:
    inputs, model = features(), seeded(lambda: nn.Linear(WIDTH, CLASSES))
    with torch.inference_mode():
        labels = labels_of(inputs) + 0
    expected = gradient_kernel(model, (inputs, labels_of(inputs)), (inputs, labels_of(inputs)))
    torch.testing.assert_close(gradient_kernel(model, (inputs, labels), (inputs, labels)).cross, expected.cross)


def test_roots_of_the_curvature_where_later_classes_have_underflowed() -> None:
    logits = torch.tensor([[120.0, 0.0, 0.0], [0.0, 120.0, 0.0]])
    torch.testing.assert_close(contrast_roots(logits, torch.tensor([0, 1])), torch.zeros(2, 2))
