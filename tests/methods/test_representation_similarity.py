"""RepSim and RepDot against a loop over pairs in float64, and what they cannot see."""

from dataclasses import replace

import torch
from tiny_model import examples_of, score
from torch import Tensor, nn

from tda.data.splits import Split
from tda.system.inputs import call

EVERY_FAMILY = True


def classifier_and_before(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The module that holds the last parameter, and the last one before it whose output is 0 where its parameters are."""
    kinds = ("Linear", "LayerNorm", "RMSNorm")
    holders = [module for module in model.modules() if type(module).__name__ in kinds]
    return holders[-1], holders[-2]


def naive_representations(model: nn.Module, split: Split) -> list[Tensor]:
    """What goes into the classifier for each example alone."""
    found = []
    handle = classifier_and_before(model)[0].register_forward_hook(
        lambda _, arguments, output: found.append(arguments[0].detach().flatten())
    )
    for inputs, _ in examples_of(split):
        call(model, inputs)
    handle.remove()
    return found


def test_every_pair(tiny):
    train, test, members = tiny
    cosines, products = score("repsim", members, train, test), score("repdot", members, train, test)
    for member, cosine, product in zip(members, cosines, products, strict=True):
        left, right = (naive_representations(member.model, split) for split in (train, test))
        for i in range(len(train)):
            for j in range(len(test)):
                expected = left[i] @ right[j]
                torch.testing.assert_close(product[i, j].double(), expected)
                torch.testing.assert_close(cosine[i, j].double(), expected / left[i].norm() / right[j].norm())


def test_labels_are_not_seen_and_oneself_is_most_alike(tiny):
    train, _, members = tiny
    wrong = replace(train, labels=(train.labels + 1) % 3)
    (cosine,) = score("repsim", members[-1:], train, train)
    (other,) = score("repsim", [replace(members[-1], cache={})], wrong, train)
    assert torch.equal(cosine, other)
    torch.testing.assert_close(cosine.diagonal(), torch.ones_like(cosine.diagonal()))


def test_representation_that_is_exactly_zero_scores_zero(tiny):
    train, test, members = tiny
    member = members[0]
    with torch.no_grad():
        for parameter in classifier_and_before(member.model)[1].parameters():
            parameter.zero_()
    (cosine,) = score("repsim", [member], train, test)
    assert (cosine == 0).all()
