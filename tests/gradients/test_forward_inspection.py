"""What is seen of a forward pass, and models whose examples have no gradient of their own."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from conftest import CHECKOUT
from single_examples import CLASSES, WIDTH, Branching, Sorting, features, seeded
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tda.gradients.forward_inspection import distinct_pair, inspected, spread
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.system.errors import UserError


class Between(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.function, self.head = nn.Linear(WIDTH, WIDTH), function, nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.function(self.first(inputs)))


READING = {
    "any": lambda hidden: hidden * 2 if (hidden > 0).any() else hidden,
    "item": lambda hidden: hidden * hidden.sum().item(),
    "mask": lambda hidden: hidden.index_put((hidden > 0,), hidden[hidden > 0].exp()),
    "nonzero": lambda hidden: hidden.index_add(0, (hidden[:, 0] > 0).nonzero()[:, 0], hidden[hidden[:, 0] > 0]),
    "tolist": lambda hidden: hidden * len(hidden.detach().tolist()),
    "numpy": lambda hidden: hidden * float(hidden.detach().numpy().size),
}

REORDERING = {
    "sort": lambda hidden: hidden[hidden[:, 0].argsort()],
    "gather": lambda hidden: hidden.gather(1, hidden.argmax(1, keepdim=True).expand_as(hidden)),
}

STATIC = {
    "tanh": torch.tanh,
    "softmax": lambda hidden: hidden.softmax(-1),
    "where": lambda hidden: torch.where(hidden > 0, hidden, -hidden),
    "pooling": lambda hidden: functional.max_pool1d(hidden[:, None], 1)[:, 0],
    "slices": lambda hidden: torch.cat([hidden[:, :2], hidden[:, 2:]], dim=1),
}


def seen(model: nn.Module, inputs: Tensor):
    return inspected(model, lambda: model(inputs))


@pytest.mark.parametrize("name", READING)
def test_values_that_decide_the_course_are_seen(name: str) -> None:
    assert seen(seeded(Between, READING[name]), features(4)).reads


@pytest.mark.parametrize("name", REORDERING)
def test_reorderings_are_seen(name: str) -> None:
    forward = seen(seeded(Between, REORDERING[name]), features(4))
    assert forward.data_dependent and not forward.reads


@pytest.mark.parametrize("name", STATIC)
def test_models_that_do_the_same_to_all_data(name: str) -> None:
    forward = seen(seeded(Between, STATIC[name]), features(4))
    assert not forward.data_dependent and not forward.draws and forward.epsilon == torch.finfo(torch.float64).eps


def test_compiled_models_are_seen_through() -> None:
    model = torch.compile(seeded(Between, REORDERING["gather"]), backend="eager")
    model(features(4))
    forward = seen(model, features(4))
    assert forward.reorders and not forward.draws


NO_COMPILER = """
import sys, torch
from tda.gradients.forward_inspection import inspected
model = torch.nn.Linear(3, 2)
inspected(model, lambda: model(torch.ones(4, 3)))
print("torch._dynamo" in sys.modules)
"""


def test_looking_on_imports_no_compiler() -> None:
    """It takes torch a second, in every process that scores."""
    done = subprocess.run([sys.executable, "-c", NO_COMPILER], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_least_precise_numbers_set_the_tolerance() -> None:
    forward = seen(seeded(Between, lambda hidden: hidden.bfloat16().double()), features(4))
    assert forward.epsilon == torch.finfo(torch.bfloat16).eps
    single = seen(Between(torch.tanh), features(4).float())
    assert single.gradient_tolerance == pytest.approx(1e-3, rel=0.1) and single.output_tolerance < single.gradient_tolerance


def test_products_that_a_gpu_rounds_are_known_however_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with FakeTensorMode():
        model = nn.Linear(WIDTH, CLASSES, device="cuda")
        inputs = torch.empty(4, WIDTH, device="cuda")
        exact = seen(model, inputs)
        try:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            rounded = seen(model, inputs)
        finally:
            torch.backends.cuda.matmul.fp32_precision = "none"
    assert not exact.data_dependent and exact.epsilon == torch.finfo(torch.float32).eps
    assert not rounded.data_dependent and not rounded.draws and rounded.epsilon == 2**-10


COMPANY = {
    "batch normalisation": lambda hidden: functional.batch_norm(hidden, None, None, training=True),
    "centring": lambda hidden: hidden - 0.01 * hidden.mean(0),
    "attention over the batch": lambda hidden: (hidden @ hidden.T).softmax(-1) @ hidden,
    "softmax over the batch": lambda hidden: hidden.softmax(0),
    "the largest of the batch": lambda hidden: hidden / hidden.abs().max(),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", COMPANY)
def test_examples_that_mix_are_refused(name: str, dtype: torch.dtype) -> None:
    inputs = features().to(dtype)
    with pytest.raises(UserError, match="depends on the other examples of its batch|cannot process a single example"):
        plan_gradients(seeded(Between, COMPANY[name]).to(dtype), inputs)


@pytest.mark.parametrize("count", [1, 5])
def test_examples_that_mix_are_refused_although_all_are_alike(count: int) -> None:
    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        plan_gradients(seeded(Between, COMPANY["centring"]), features(1).expand(count, WIDTH))


def test_the_first_two_may_be_alike() -> None:
    inputs = features()
    inputs[1] = inputs[0]
    with pytest.raises(UserError, match="depends on the other examples"):
        gradient_kernel(
            seeded(Between, COMPANY["centring"]), (inputs, torch.zeros(18).long()), (inputs, torch.zeros(18).long())
        )


CHANCE = {
    "dropout": lambda hidden: functional.dropout(hidden, 0.5),
    "rare dropout": lambda hidden: functional.dropout(hidden, 0.03),
    "noise": lambda hidden: hidden + 0.01 * torch.randn_like(hidden),
}


@pytest.mark.parametrize("name", CHANCE)
def test_chance_is_refused(name: str) -> None:
    torch.manual_seed(1)
    with pytest.raises(UserError, match="changes from call to call"):
        plan_gradients(seeded(Between, CHANCE[name]), features())


def test_random_numbers_without_effect_are_no_chance() -> None:
    assert plan_gradients(seeded(Between, lambda hidden: hidden + 0 * torch.rand_like(hidden)), features())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_neither_company_nor_chance(dtype: torch.dtype) -> None:
    model = seeded(Between, lambda hidden: (hidden.bfloat16() * 3).float().tanh()).float()
    inputs = 100 * features().float()
    plan_gradients(model.to(dtype) if dtype != torch.float32 else model, inputs.to(dtype))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant: bool) -> None:
    inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)).double()
    model = seeded(Between, lambda hidden: checkpoint(inner, hidden, use_reentrant=reentrant))
    model.inner = inner
    if reentrant:
        with pytest.raises(UserError, match="use_reentrant=False"):
            plan_gradients(model, features())
    else:
        assert not plan_gradients(model, features()).whole_model


def test_pairs_and_spread_positions() -> None:
    assert spread(100, 5) == [0, 24, 49, 74, 99] and spread(3, 8) == [0, 1, 2] and spread(1, 8) == [0]
    inputs = torch.zeros(6, 2)
    assert distinct_pair(inputs) is None
    inputs[4] = 1
    assert distinct_pair(inputs) == (0, 4)
    assert distinct_pair({"a": torch.zeros(6, 2), "b": inputs}) == (0, 4)


def test_branches_and_sorting_are_data_dependent() -> None:
    assert seen(seeded(Branching), features()).reads and seen(seeded(Sorting), features()).data_dependent


def by_the_largest(inputs: Tensor) -> Tensor:
    return inputs / inputs.max()


MIXING_UNSEEN = {
    "images of one largest value": (lambda hidden: hidden, by_the_largest, None),
    "a masked class": (lambda hidden: hidden - hidden.mean(dim=0), lambda inputs: inputs, float("-inf")),
    "a cast to 16 bits": (lambda hidden: hidden + 0.5 * hidden.mean(dim=0).bfloat16(), lambda inputs: inputs, None),
}


@pytest.mark.parametrize("kind", MIXING_UNSEEN)
def test_mixing_that_little_shows_is_refused(kind: str) -> None:
    function, before, masked = MIXING_UNSEEN[kind]

    class Mixing(Between):
        def forward(self, inputs: Tensor) -> Tensor:
            logits = super().forward(before(inputs))
            return logits if masked is None else logits.index_fill(1, torch.tensor([1]), masked)

    model, inputs = seeded(lambda: Mixing(function)), features().abs() / 10
    inputs[:, 0] = 1
    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        plan_gradients(model, inputs)


def test_a_model_that_does_not_take_twice_the_values_is_not_refused() -> None:
    class Strict(Between):
        def forward(self, inputs: Tensor) -> Tensor:
            if float(inputs.detach().abs().max()) > 1:
                raise ValueError("not normalised")
            return super().forward(inputs)

    inputs = features()
    plan_gradients(seeded(lambda: Strict(torch.tanh)), inputs / inputs.abs().max())
