"""Models of 16 bits, adapters on them and models under autocast: computed in float32, right against float64."""

import copy

import pytest
import torch
from single_examples import CLASSES, WIDTH, assert_close, features, gradients_alone, labels_of, seeded
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.activation_memory import activation_bytes
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import Classification
from tda.gradients.quantities import margin
from tda.gradients.representations import penultimate_representations
from tda.gradients.single_precision import Follower, single_precision, without_autocast
from tda.system.errors import UserError
from tda.training.evaluation import evaluate, logits_of_split

LOW = [torch.bfloat16, torch.float16]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, CLASSES))


class Adapted(nn.Module):
    """A frozen layer of low precision with float32 adapters, as peft leaves them."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, CLASSES).requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, CLASSES, bias=False)
        self.to(dtype)
        self.down.float(), self.up.float()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.base(inputs) + self.up(self.down(inputs.to(self.down.weight.dtype))).to(inputs.dtype)


class Autocasting(nn.Module):
    """Enters an autocast in its own forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.layers(inputs).float()


def assert_margins_match(model: nn.Module, exact: nn.Module, dtype: torch.dtype) -> None:
    """Kernel and norms in float32 against those of the same model in float64; the model is left as it was."""
    inputs, before = features().to(dtype), copy.deepcopy(model.state_dict())
    labels = labels_of(inputs)
    left, right = (inputs[:5], labels[:5]), (inputs[5:], labels[5:])
    kernel = gradient_kernel(model, left, right, margin, left_gram=True)
    names = [name for name, parameter in exact.named_parameters() if parameter.requires_grad]
    expected = gradients_alone(exact, inputs.double(), labels, margin, names)
    assert kernel.cross.dtype == kernel.left_gram.dtype == torch.float32
    assert_close(kernel.cross, expected[:5] @ expected[5:].T, 1e-5)
    assert_close(kernel.left_gram, expected[:5] @ expected[:5].T, 1e-5)
    assert_close(kernel.right_norms, expected[5:].norm(dim=1), 1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", LOW)
def test_models_of_16_bits(dtype: torch.dtype) -> None:
    model = seeded(network).to(dtype)
    assert_margins_match(model, copy.deepcopy(model).double(), dtype)


@pytest.mark.parametrize("dtype", LOW)
def test_adapters_in_float32_on_a_base_of_16_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Adapted(dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype, torch.float32}
    assert_margins_match(model, copy.deepcopy(model).double(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, *LOW])
def test_an_autocast_inside_the_model_is_off(dtype: torch.dtype) -> None:
    model = seeded(Autocasting).float()
    assert_margins_match(model, copy.deepcopy(model.layers).double(), dtype)


def test_an_autocast_around_the_call_is_off_in_it_and_on_after_it() -> None:
    model = seeded(network).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert_margins_match(model, copy.deepcopy(model).double(), torch.float32)
        assert model(features().float()).dtype == torch.bfloat16
        with without_autocast(torch.device("cpu")):
            assert model(features().float()).dtype == torch.float32
            with torch.autocast("cpu", torch.bfloat16):
                assert model(features().float()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert model(features().float()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", LOW)
def test_a_plan_follows_the_model_that_it_was_made_for(dtype: torch.dtype) -> None:
    model, inputs = seeded(network).to(dtype), features().to(dtype)
    plan, labels = plan_gradients(model, inputs), labels_of(inputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(3):
        if step == 1:
            margin(model(inputs), labels).sum().backward()
            optimizer.step()
        if step == 2:
            model.load_state_dict({name: tensor + 1 for name, tensor in model.state_dict().items()})
        rows = plan.rows(inputs, labels, margin).dense()
        assert_close(rows, gradients_alone(copy.deepcopy(model).double(), inputs.double(), labels, margin), 1e-5)


@pytest.mark.parametrize("dtype", LOW)
def test_evaluations_and_representations(dtype: torch.dtype) -> None:
    model, inputs = seeded(network).to(dtype), features().to(dtype)
    labels, exact = labels_of(inputs), copy.deepcopy(model).double()
    split = Split(inputs, labels, torch.arange(len(inputs)))
    logits, objective = exact(inputs.double()), Classification()
    evaluation = evaluate(model, objective, split)
    assert_close(evaluation.losses, objective.loss(logits, labels), 1e-6)
    assert_close(evaluation.margins, objective.margin(logits, labels), 1e-6)
    assert_close(logits_of_split(model, split), logits, 1e-6)
    assert_close(penultimate_representations(model, inputs), exact[:-1](inputs.double()), 1e-6)
    assert evaluation.losses.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(evaluate(model, objective, split).losses, objective.loss(logits, labels), 1e-6)
    # What a pass keeps is counted of the copy that it runs on.
    assert activation_bytes(model, inputs) == activation_bytes(model.float(), inputs.float())


def test_only_models_of_16_bits_are_copied() -> None:
    model = network()
    assert single_precision(model) is model and Follower(model).model is model
    model.register_buffer("table", torch.zeros(3, dtype=torch.float16))
    copied = single_precision(model)
    assert copied is not model and copied.table.dtype == torch.float32 and model.table.dtype == torch.float16


def test_a_model_that_cannot_be_copied_is_one_sentence() -> None:
    model = network().half()
    model.remembered = model[0].weight * 2
    with pytest.raises(UserError, match="in 16 bits and cannot be copied.*give model.float()"):
        plan_gradients(model, features().half())
