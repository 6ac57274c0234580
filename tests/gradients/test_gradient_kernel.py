"""The kernel of whole models against autograd, one example at a time, and the ways in which a model may be odd."""

import pytest
import torch
from odd_networks import CLASSES, Attention, Masked, OddModules, Residual, ScaledByTable, SharedTwice, Stubborn, Tied, small_cnn
from torch import Tensor, nn

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.quantities import Quantity, all_logits, cross_entropy_loss, margin
from tda.system.errors import UserError


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def examples(*shape: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    return numbers(*shape, seed=seed), torch.arange(shape[0]) % CLASSES


def naive_gradients(model: nn.Module, data: tuple[Tensor, Tensor], quantity: Quantity, names: list[str]) -> Tensor:
    parameters = [model.get_parameter(name) for name in names]
    rows = []
    for image, label in zip(*data, strict=True):
        for value in quantity(model(image[None]), label[None]).flatten():
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def assert_kernel_matches(model: nn.Module, *shape: int, parameters: list[str] | None = None) -> GradientPlan:
    """Compare every pair of 3 left and 5 right examples, for one and for several quantities, and return the plan."""
    model = model.double().eval()
    names = [name for name, _ in model.named_parameters() if parameters is None or name in parameters]
    left, right = examples(3, *shape, seed=4), examples(5, *shape)
    for quantity in (cross_entropy_loss, all_logits):
        expected_left, expected_right = (naive_gradients(model, data, quantity, names) for data in (left, right))
        kernel = gradient_kernel(model, left, right, quantity, parameters=parameters, left_gram=True)
        torch.testing.assert_close(kernel.cross, expected_left @ expected_right.T)
        torch.testing.assert_close(kernel.left_gram, expected_left @ expected_left.T)
        torch.testing.assert_close(kernel.left_norms, expected_left.norm(dim=1))
        torch.testing.assert_close(kernel.right_norms, expected_right.norm(dim=1))
    plan = plan_gradients(model, left[0], parameters, 3, 5)
    assert_joined_and_chosen_rows_match(plan, left, right, expected_left, expected_right)
    return plan


def assert_joined_and_chosen_rows_match(
    plan: GradientPlan, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], expected_left: Tensor, expected_right: Tensor
) -> None:
    """Inner products summed over an example's logits, and those of single rows, against gradients of all logits."""
    held, other = (plan.rows(*data, all_logits) for data in (left, right))
    long_left, long_right = (
        rows.unflatten(0, (count, -1)).flatten(1) for rows, count in ((expected_left, 3), (expected_right, 5))
    )
    torch.testing.assert_close(held.joined().inner(other.joined()), long_left @ long_right.T)
    torch.testing.assert_close(held.joined().gram(), long_left @ long_left.T)
    positions = torch.tensor([7, 0, 4])
    torch.testing.assert_close(held.chosen(positions).gram(), expected_left[positions] @ expected_left[positions].T)
    torch.testing.assert_close(held.chosen(positions).inner(other), expected_left[positions] @ expected_right.T)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_cnn(channels_last: bool, inplace: bool) -> None:
    model = small_cnn(inplace)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    assert not assert_kernel_matches(model, 1, 8, 8).whole_model


def test_residual_net_with_overwritten_outputs() -> None:
    assert not assert_kernel_matches(Residual(), 1, 5, 5).whole_model


def test_shared_modules() -> None:
    assert not assert_kernel_matches(SharedTwice(), 4).whole_model


def test_tied_parameters() -> None:
    assert assert_kernel_matches(Tied(), 4).whole_model == []


def test_odd_modules() -> None:
    plan = assert_kernel_matches(OddModules(), 4)
    assert plan.whole_model == ["shift", "read.weight"] and plan.vectorized


def test_attention() -> None:
    assert assert_kernel_matches(Attention(), 5, 4).whole_model == ["position.weight"]


def test_attention_with_examples_in_the_second_dimension() -> None:
    plan = assert_kernel_matches(Attention(batch_first=False), 5, 4)
    assert plan.whole_model == ["position.weight"]


@pytest.mark.parametrize("build", [Masked, ScaledByTable])
def test_tables_that_are_as_long_as_there_are_examples(build: type[nn.Module]) -> None:
    assert not assert_kernel_matches(build(), 5, 4).whole_model


def test_transformer_encoder() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    model = nn.Sequential(nn.Linear(2, 4), encoder, nn.Flatten(), nn.Linear(20, CLASSES))
    assert not assert_kernel_matches(model, 5, 2).whole_model


def test_model_that_defies_vectorization() -> None:
    plan = assert_kernel_matches(Stubborn(), 4)
    assert plan.whole_model == ["scale"] and not plan.vectorized


def test_lora_adapters() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 6), nn.Flatten(), nn.Linear(30, CLASSES))
    model = peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False), base)
    names = [name for name, _ in model.named_parameters() if "lora" in name]
    plan = assert_kernel_matches(model, 5, 4, parameters=names)
    assert list(plan.shapes) == names and not plan.whole_model


@pytest.mark.parametrize("parameters", [["0.weight"], ["3.bias", "6.bias"], ["8.bias", "6.weight"]])
def test_a_subset_of_parameters(parameters: list[str]) -> None:
    assert_kernel_matches(small_cnn(), 1, 8, 8, parameters=parameters)


def test_parameters_that_are_not_trained_are_left_out_by_default() -> None:
    model = small_cnn()
    model[0].requires_grad_(False)
    layers = ("3", "6", "8")
    expected = [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]
    assert list(plan_gradients(model, torch.randn(2, 1, 8, 8)).shapes) == expected


def test_result_depends_on_neither_block_size_nor_memory_budget() -> None:
    model, left, right = small_cnn().double(), examples(6, 1, 8, 8, seed=4), examples(7, 1, 8, 8)

    def logit(logits: Tensor, labels: Tensor) -> Tensor:
        return logits[:, 1]

    whole = gradient_kernel(model, left, right, margin, logit, left_gram=True)
    finished = []
    pieces = gradient_kernel(
        model, left, right, margin, logit, left_gram=True, memory_budget=5000, block_size=2, progress=finished.append
    )
    assert finished == [2, 2, 2, 1] * (len(finished) // 4) and len(finished) > 4
    for name in ("cross", "left_norms", "right_norms", "left_gram"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name))


class MeanOverPlaces(nn.Module):
    """(n, T, O) -> (n, O)."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.mean(dim=1)


def test_gradients_that_do_not_fit_are_not_formed_anew_for_each_chunk() -> None:
    """Formed, two of 40 examples fit at once, so that the right ones would stream by 20 times; as factors, eight do."""
    model = nn.Sequential(nn.Linear(64, 64), MeanOverPlaces()).double()
    left, right = examples(40, 8, 64, seed=4), examples(41, 8, 64)
    assert not any(layer.factored for layer in plan_gradients(model, left[0], None, 40, 41).layers)
    whole, finished = gradient_kernel(model, left, right, margin), []
    pieces = gradient_kernel(model, left, right, margin, memory_budget=70_000, progress=finished.append)
    assert sum(finished) == 5 * 41
    for name in ("cross", "left_norms", "right_norms"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name))


def test_different_quantities_on_the_two_sides() -> None:
    model, left, right = small_cnn().double(), examples(2, 1, 8, 8, seed=4), examples(3, 1, 8, 8)
    names = [name for name, _ in model.named_parameters()]
    expected = naive_gradients(model, left, all_logits, names) @ naive_gradients(model, right, margin, names).T
    torch.testing.assert_close(gradient_kernel(model, left, right, margin, left_quantity=all_logits).cross, expected)


def test_rows_dense_times_and_combined() -> None:
    model, data = OddModules().double(), examples(5, 4)
    names = [name for name, _ in model.named_parameters()]
    rows = plan_gradients(model, data[0]).rows(*data, all_logits, block_size=2)
    expected = naive_gradients(model, data, all_logits, names)
    torch.testing.assert_close(rows.dense(), expected)
    torch.testing.assert_close(rows.dense(names[::-1]), naive_gradients(model, data, all_logits, names[::-1]))
    vectors = {name: numbers(2, *model.get_parameter(name).shape) for name in names}
    torch.testing.assert_close(rows.times(vectors), torch.cat([vectors[name].flatten(1) for name in names], dim=1) @ expected.T)
    torch.testing.assert_close(rows.gram(), expected @ expected.T)
    weights = numbers(3, rows.count)
    combined = rows.combined(weights)
    assert list(combined) == names
    torch.testing.assert_close(torch.cat([combined[name].flatten(1) for name in names], dim=1), weights @ expected)
    one = {"head.bias": vectors["head.bias"]}
    torch.testing.assert_close(rows.times(one), one["head.bias"] @ expected[:, -CLASSES:].T)


def test_single_precision_stays_single() -> None:
    model = small_cnn()
    (left, labels), right = examples(3, 1, 8, 8), examples(4, 1, 8, 8, seed=5)
    kernel = gradient_kernel(model, (left.float(), labels), (right[0].float(), right[1]))
    exact = gradient_kernel(model.double(), (left, labels), right)
    assert kernel.cross.dtype == kernel.right_norms.dtype == torch.float32
    torch.testing.assert_close(kernel.cross.double(), exact.cross, rtol=1e-4, atol=1e-5)


def test_a_plan_outlives_the_parameters_it_was_made_with() -> None:
    model, left, right = small_cnn().double(), examples(2, 1, 8, 8, seed=4), examples(3, 1, 8, 8)
    plan = plan_gradients(model, left[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    torch.testing.assert_close(gradient_kernel(model, left, right, plan=plan).cross, gradient_kernel(model, left, right).cross)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(small_cnn(), nn.Dropout(0.5)).double().train()
    model[0][3].eval().requires_grad_(False)
    left, right = examples(2, 1, 8, 8), examples(3, 1, 8, 8)

    def state() -> list:
        modules = [(module.training, len(module._forward_hooks)) for module in model.modules()]
        return [modules, [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]]

    before = state()

    def failing(logits: Tensor, labels: Tensor) -> Tensor:
        raise ArithmeticError

    first, second = (gradient_kernel(model, left, right).cross for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    with pytest.raises(ArithmeticError):
        gradient_kernel(model, left, right, failing)
    assert state() == before


def test_margin_is_the_log_odds_and_stays_finite() -> None:
    logits, labels = numbers(4, CLASSES), torch.tensor([0, 1, 2, 0])
    probability = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(margin(logits, labels), (probability / (1 - probability)).log())
    assert margin(torch.tensor([[1000.0, 0.0]]), torch.tensor([0])).item() == 1000


def test_batch_normalization_in_training_mode_is_refused() -> None:
    model, data = Residual().double().train(), examples(2, 1, 5, 5)
    with pytest.raises(UserError, match="batch normalisation 'norm'.*model.eval()"):
        gradient_kernel(model, data, data)


def test_an_unknown_parameter_is_refused() -> None:
    data = examples(2, 1, 8, 8)
    with pytest.raises(UserError, match="no parameter named '9.weight'"):
        gradient_kernel(small_cnn().double(), data, data, parameters=["9.weight"])


def test_a_single_example_on_either_side() -> None:
    model, data = small_cnn().double(), examples(1, 1, 8, 8)
    kernel = gradient_kernel(model, data, data)
    torch.testing.assert_close(kernel.cross, kernel.left_norms[:, None] * kernel.right_norms)
