"""Second derivatives that torch gets wrong are found out, and right ones are not refused."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from single_examples import CLASSES, WIDTH, features, labels_of, seeded
from torch import Tensor, nn
from torch.nn import functional

from tda.curvature.inverses import Solver, iterative_inverse
from tda.curvature.symmetry import require_symmetric_hessian
from tda.data.splits import Split
from tda.gradients.objectives import Classification
from tda.system.errors import UserError

EVERY_FAMILY = True


class Bent(torch.autograd.Function):
    """x^3, whose second derivative is that of another function, and depends on the place."""

    @staticmethod
    def forward(context, inputs: Tensor) -> Tensor:
        context.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(context, given: Tensor) -> Tensor:
        (inputs,) = context.saved_tensors
        turned = (inputs.detach() + 0.1 * (inputs - inputs.detach()).roll(1, dims=-1)) ** 2
        return 3 * turned * given


class Bending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(Bent.apply(self.first(inputs)))


class WeightNormed(nn.Module):
    """torch's fused weight normalisation, and the formula that it stands for."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.direction, self.length, self.head = (
            nn.Parameter(torch.randn(5, WIDTH)),
            nn.Parameter(torch.rand(5, 1) + 0.5),
            nn.Linear(5, CLASSES),
        )
        self.fused = fused

    def forward(self, inputs: Tensor) -> Tensor:
        plain = self.direction * (self.length / self.direction.norm(dim=1, keepdim=True))
        weight = torch._weight_norm(self.direction, self.length, 0) if self.fused else plain
        return self.head(functional.linear(inputs, weight).tanh())


def split_of(inputs: Tensor) -> Split:
    return Split(inputs, labels_of(inputs), torch.arange(len(inputs)))


def test_a_wrong_double_backward_pass_is_refused() -> None:
    split = split_of(features())
    with pytest.raises(UserError, match="its Hessian is off symmetry by"):
        require_symmetric_hessian(seeded(Bending), split)
    with pytest.raises(UserError, match="take the Gauss-Newton matrix"):
        iterative_inverse(seeded(Bending), Classification(), split, Solver("hessian", 0.1, 1e-3, 10))


def test_weight_normalisation_by_its_formula_is_taken_and_by_the_fused_operator_as_torch_has_it() -> None:
    """The fused one is wrong in torch 2.11, and a torch that mends it is not refused."""
    require_symmetric_hessian(seeded(lambda: WeightNormed(False)), split_of(features()))
    direction, length = torch.randn(3, 4).double().requires_grad_(), (torch.rand(3, 1).double() + 0.5).requires_grad_()
    is_right = torch.autograd.gradgradcheck(partial(torch._weight_norm, dim=0), (direction, length), raise_exception=False)
    with nullcontext() if is_right else pytest.raises(UserError, match="off symmetry"):
        require_symmetric_hessian(seeded(lambda: WeightNormed(True)), split_of(features()))


def test_models_of_every_family_are_taken(tiny) -> None:
    train, _, members = tiny
    for member in members[:1]:
        require_symmetric_hessian(member.model, train)


def test_a_network_that_is_sure_is_taken() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)))
    with torch.no_grad():
        model[2].weight.mul_(1e3)
    require_symmetric_hessian(model, split_of(features()))
