"""Any small network, input, precision and cut into batches: the rows are the gradients of single examples in float64."""

import copy

import pytest
import torch
from hypothesis import given, reject, settings
from random_cases import ODD_CONVOLUTIONS, REPEATABLE, Case, cases
from single_examples import assert_close, gradients_alone, labels_of

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import all_logits, cross_entropy_loss, curvature_roots, margin
from tda.system.inputs import cast, chosen

QUANTITIES = {"loss": cross_entropy_loss, "margin": margin, "logits": all_logits, "roots": curvature_roots}

pytestmark = ODD_CONVOLUTIONS
QUICK = settings(REPEATABLE, max_examples=60)


def assert_rows_are_those_alone(case: Case) -> None:
    model, inputs = case.network(), case.inputs()
    labels, quantity = labels_of(inputs), QUANTITIES[case.quantity]
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    before = copy.deepcopy(model.state_dict())
    # In torch's own format: in the other one, group normalisation of inputs that need no gradient ends the process.
    exact = copy.deepcopy(model).double().eval().to(memory_format=torch.contiguous_format)
    alone = inputs if isinstance(inputs, dict) else inputs.contiguous()
    try:
        expected = gradients_alone(exact, cast(alone, torch.float64), labels, quantity, names)
    except RuntimeError as error:
        # An activation in place may overwrite what the backward pass needs; autograd says so.
        assert "modified by an inplace operation" in str(error)
        reject()
    # Products of gradients that nearly cancel are as exact as their terms.
    tolerance = 1e-9 if case.dtype == torch.float64 else 2e-4
    many = 1000 if case.far else 1
    plan = plan_gradients(model, inputs, None, many, many)
    rows = plan.rows(inputs, labels, quantity, case.block_size)
    assert list(plan.shapes) == names
    assert rows.values.dtype == (torch.float64 if case.dtype == torch.float64 else torch.float32)
    assert_close(rows.dense(names), expected, tolerance)
    assert_close(rows.gram(), expected @ expected.T, tolerance)
    assert_close(rows.squared_norms(), expected.square().sum(1), tolerance)
    part = chosen(inputs, slice(0, 2)), labels[:2]
    kernel = gradient_kernel(model, part, (inputs, labels), quantity, block_size=case.block_size, plan=plan)
    assert_close(kernel.cross, expected[: 2 * rows.values.shape[1]] @ expected.T, tolerance)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@QUICK
@given(case=cases())
def test_rows_are_gradients_of_single_examples(case: Case) -> None:
    assert_rows_are_those_alone(case)


@pytest.mark.long
@settings(QUICK, max_examples=2000, derandomize=False, print_blob=True)
@given(case=cases())
def test_rows_of_many_networks_are_gradients_of_single_examples(case: Case) -> None:
    assert_rows_are_those_alone(case)
