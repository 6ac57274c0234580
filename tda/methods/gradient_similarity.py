"""Grad-Dot and Grad-Cos: how alike the loss gradients of a training and a test example are."""

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import GradientKernel, gradient_kernel
from tda.methods.registry import Attribution, per_member, register
from tda.training.members import Member


def loss_kernel(member: Member, train: Split, test: Split) -> GradientKernel:
    """Inner products and norms of the loss gradients of train and test, computed once per member and splits."""
    return member.remember("loss kernel", (train, test), lambda: _computed(member, train, test))


def _computed(member: Member, train: Split, test: Split) -> GradientKernel:
    sides = [(split.inputs, split.labels) for split in (train, test)]
    if len(train) <= len(test):
        return gradient_kernel(member.model, *sides, member.objective.loss)
    # The gradients of one side are held: those of 60,000 training images would be gigabytes.
    found = gradient_kernel(member.model, *reversed(sides), member.objective.loss)
    return GradientKernel(found.cross.T, found.right_norms, found.left_norms, None)


def scored_kernel(member: Member, train: Split, test: Split) -> GradientKernel:
    """The same of the scored training examples alone: no other has a part in their scores."""
    return loss_kernel(member, member.study.scored_of(train), test)


def cosines(kernel: GradientKernel) -> Tensor:
    """Cosines (n_train, n_test) between the gradients of a kernel; 0 where a gradient is exactly 0."""
    smallest = torch.finfo(torch.float32).tiny
    left, right = kernel.left_norms.clamp(min=smallest), kernel.right_norms.clamp(min=smallest)
    return (kernel.cross / left[:, None] / right[None, :]).clamp(-1, 1)


@register("grad_dot", "Grad-Dot", "Charpiat et al. 2019; Pruthi et al. 2020")
@per_member
def grad_dot(member: Member, train: Split, test: Split) -> Attribution:
    """g_train . g_test, unscaled."""
    return Attribution(scored_kernel(member, train, test).cross, positions=member.study.scored)


@register("grad_cos", "Grad-Cos", "Charpiat et al. 2019")
@per_member
def grad_cos(member: Member, train: Split, test: Split) -> Attribution:
    """g_train . g_test / (|g_train| |g_test|); 0 where a gradient is exactly 0."""
    return Attribution(cosines(scored_kernel(member, train, test)), positions=member.study.scored)
