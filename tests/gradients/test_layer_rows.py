"""Each layer's gradients, in both forms, against autograd, one example at a time."""

import pytest
import torch
from torch import Tensor, nn

from tda.gradients.factored_rows import FactoredRows
from tda.gradients.formed_rows import FormedRows
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows, joined_rows
from tda.gradients.layer_rows import layer_rows
from tda.gradients.layers import Layer
from tda.gradients.projections import KINDS, Projection
from tda.gradients.recorded_pass import record_calls

COUNT = 5


class Readout(nn.Module):
    """A layer followed by something that makes its output gradients differ from entry to entry."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.layer(inputs).flatten(1)
        weights = torch.arange(1, features.shape[1] + 1, dtype=features.dtype)
        return torch.stack([(features.square() * weights.cos()).sum(1), (features * weights.sin()).sum(1).exp()], dim=1)


def quantities(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([logits[:, 0] * logits[:, 1].tanh(), logits[:, 1] / (1 + labels)], dim=1)


def naive_gradients(model: nn.Module, inputs: Tensor, labels: Tensor, names: list[str]) -> Tensor:
    parameters = [model.get_parameter(name) for name in names]
    rows = []
    for i in range(len(inputs)):
        for value in quantities(model(inputs[i : i + 1]), labels[i : i + 1]).flatten():
            gradients = torch.autograd.grad(value, parameters, retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def tokens(*shape: int) -> Tensor:
    return torch.randint(6, shape, generator=torch.Generator().manual_seed(3))


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


FACTORED = {
    "linear": (lambda: nn.Linear(4, 3), numbers(COUNT, 4)),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), numbers(COUNT, 4)),
    "linear on sequences": (lambda: nn.Linear(4, 3), numbers(COUNT, 6, 4)),
    "linear on grids": (lambda: nn.Linear(4, 3), numbers(COUNT, 2, 3, 4)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), numbers(COUNT, 2, 6, 5)),
    "conv2d, channels last": (
        lambda: nn.Conv2d(2, 3, 3, padding=1),
        numbers(COUNT, 2, 6, 5).contiguous(memory_format=torch.channels_last),
    ),
    "conv2d, stride, padding, dilation": (
        lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2)),
        numbers(COUNT, 2, 7, 6),
    ),
    "conv2d, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), numbers(COUNT, 4, 5, 5)),
    "conv2d, depthwise, channels last": (
        lambda: nn.Conv2d(3, 6, 3, groups=3, stride=2, padding=1),
        numbers(COUNT, 3, 5, 5).contiguous(memory_format=torch.channels_last),
    ),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), numbers(COUNT, 2, 5, 6)),
    "conv2d, valid": (lambda: nn.Conv2d(2, 3, 2, padding="valid"), numbers(COUNT, 2, 4, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), numbers(COUNT, 4, 8)),
    "embedding": (lambda: nn.Embedding(6, 3), tokens(COUNT, 4)),
    "embedding, one token": (lambda: nn.Embedding(6, 3), tokens(COUNT)),
    "embedding, padding": (lambda: nn.Embedding(6, 3, padding_idx=2), tokens(COUNT, 7)),
}


def turned(inputs: int, outputs: int) -> nn.Module:
    from transformers.pytorch_utils import Conv1D

    return Conv1D(outputs, inputs)


FACTORED |= {
    "transformers' Conv1D": (lambda: turned(4, 3), numbers(COUNT, 6, 4)),
    "transformers' Conv1D, square": (lambda: turned(4, 4), numbers(COUNT, 1, 4)),
}

FORMED = {
    "layer norm": (lambda: nn.LayerNorm(4), numbers(COUNT, 3, 4)),
    "layer norm, two dimensions": (lambda: nn.LayerNorm((3, 4)), numbers(COUNT, 3, 4)),
    "rms norm": (lambda: nn.RMSNorm(4), numbers(COUNT, 3, 4)),
    "group norm": (lambda: nn.GroupNorm(2, 4), numbers(COUNT, 4, 3, 3)),
    "batch norm": (lambda: nn.BatchNorm2d(4), numbers(COUNT, 4, 3, 3)),
    "batch norm of features": (lambda: nn.BatchNorm1d(4), numbers(COUNT, 4)),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), numbers(COUNT, 4, 3, 3)),
    "prelu": (lambda: nn.PReLU(4), numbers(COUNT, 4, 3)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2), numbers(COUNT, 2, 3, 3)),
    "circular padding": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), numbers(COUNT, 2, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), numbers(COUNT, 2, 3, 3, 3)),
}


def prepared(build) -> Readout:
    torch.manual_seed(0)
    model = Readout(build().double()).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def rows_of(model: Readout, inputs: Tensor, labels: Tensor, names: list[str], factored: bool) -> FormedRows | FactoredRows:
    layer = Layer(model.layer, {name.removeprefix("layer."): name for name in names}, factored)
    recording = record_calls(model, {model.layer: list(model.layer.parameters())}, inputs, labels, quantities)
    return layer_rows(layer, recording.calls[model.layer], len(inputs))


def assert_rows_match(rows: FormedRows | FactoredRows, expected: Tensor, names: list[str]) -> None:
    gradients = rows.gradients()
    torch.testing.assert_close(torch.cat([gradients[name].flatten(1) for name in names], dim=1), expected)
    torch.testing.assert_close(rows.inner(rows), expected @ expected.T)
    torch.testing.assert_close(rows.gram(), expected @ expected.T)
    torch.testing.assert_close(rows.squared_norms(), expected.square().sum(1))
    weights = numbers(4, len(expected))
    combined = rows.combined(weights)
    torch.testing.assert_close(torch.cat([combined[name].flatten(1) for name in names], dim=1), weights @ expected)
    for vector_count in (1, 3):
        vectors = {name: numbers(vector_count, *gradients[name].shape[1:]) for name in names}
        flat = torch.cat([vectors[name].flatten(1) for name in names], dim=1)
        torch.testing.assert_close(rows.times(vectors), flat @ expected.T)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("case", FACTORED)
def test_linear_type_layers_in_both_forms(case: str, factored: bool) -> None:
    build, inputs = FACTORED[case]
    model, labels = prepared(build), torch.arange(COUNT)
    names = [name for name, _ in model.named_parameters()]
    rows = rows_of(model, inputs, labels, names, factored)
    assert isinstance(rows, FactoredRows if factored else FormedRows)
    assert_rows_match(rows, naive_gradients(model, inputs, labels, names), names)


@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("case", ["linear on sequences", "transformers' Conv1D", "transformers' Conv1D, square", "embedding"])
def test_projections_do_not_depend_on_the_form(case: str, factored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    build, inputs = FACTORED[case]
    model, labels = prepared(build), torch.arange(COUNT)
    names = [name for name, _ in model.named_parameters()]
    rows, expected = rows_of(model, inputs, labels, names, factored), naive_gradients(model, inputs, labels, names)
    monkeypatch.setattr(Projection, "_spectrum_is_cheaper", lambda *_: True)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for kind in KINDS:
        projection = Projection(8, 0, kind)
        matrix = torch.cat([projection.matrix(shapes)[name] for name in names], dim=1)
        found = projection.project(GradientRows([rows], expected.new_zeros(COUNT, 2), shapes))
        torch.testing.assert_close(found, expected @ matrix.T)


@pytest.mark.parametrize("case", FORMED)
def test_other_layers(case: str) -> None:
    build, inputs = FORMED[case]
    model, labels = prepared(build), torch.arange(COUNT)
    names = [name for name, _ in model.named_parameters()]
    assert_rows_match(rows_of(model, inputs, labels, names, False), naive_gradients(model, inputs, labels, names), names)


@pytest.mark.parametrize("name", ["layer.weight", "layer.bias"])
@pytest.mark.parametrize("case", ["linear on sequences", "conv2d, groups", "layer norm", "transposed convolution"])
def test_one_parameter_of_a_layer(case: str, name: str) -> None:
    build, inputs = (FACTORED | FORMED)[case]
    model, labels = prepared(build), torch.arange(COUNT)
    rows = rows_of(model, inputs, labels, [name], True)
    assert_rows_match(rows, naive_gradients(model, inputs, labels, [name]), [name])


@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("case", ["conv2d, groups", "linear"])
def test_blocks_of_different_sizes_and_chunks_agree(case: str, factored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    build, inputs = FACTORED[case]
    model, labels = prepared(build), torch.arange(COUNT)
    names = [name for name, _ in model.named_parameters()]
    whole = rows_of(model, inputs, labels, names, factored)
    expected = naive_gradients(model, inputs, labels, names)
    torch.testing.assert_close(rows_of(model, inputs[3:], labels[3:], names, factored).inner(whole), expected[6:] @ expected.T)
    monkeypatch.setattr("tda.gradients.factored_rows._CHUNK_ELEMENTS", 30)
    monkeypatch.setattr("tda.gradients.formed_rows._STRIP_ROWS", 2)
    assert_rows_match(whole, expected, names)


def test_the_plan_takes_the_cheaper_form() -> None:
    sequences, inputs = prepared(lambda: nn.Linear(40, 30)), numbers(2, 50, 40)
    assert not plan_gradients(sequences, inputs, None, 30, 900).layers[0].factored
    assert plan_gradients(sequences, inputs[:, :1], None, 30, 900).layers[0].factored
    words = prepared(lambda: nn.Embedding(1000, 8))
    assert plan_gradients(words, tokens(2, 4), None, 30, 900).layers[0].factored


def test_joined_blocks_keep_their_order() -> None:
    model, inputs, labels = prepared(lambda: nn.Linear(4, 3)), numbers(COUNT, 4), torch.arange(COUNT)
    plan: GradientPlan = plan_gradients(model, inputs)
    blocks = [plan.block_rows(inputs[part], labels[part], quantities) for part in (slice(0, 2), slice(2, 5))]
    expected = naive_gradients(model, inputs, labels, ["layer.weight", "layer.bias"])
    torch.testing.assert_close(joined_rows(blocks).dense(), expected)
