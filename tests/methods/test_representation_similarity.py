"""RepSim and RepDot against a loop over pairs in float64, and what they cannot see."""

import torch
from tiny_model import score

from tda.data.splits import Split


def test_every_pair(tiny):
    train, test, members = tiny
    cosines, products = score("repsim", members, train, test), score("repdot", members, train, test)
    for member, cosine, product in zip(members, cosines, products, strict=True):
        body = member.model[:-1]
        for i in range(len(train)):
            for j in range(len(test)):
                left, right = body(train.inputs[i : i + 1])[0], body(test.inputs[j : j + 1])[0]
                torch.testing.assert_close(product[i, j].double(), left @ right)
                torch.testing.assert_close(cosine[i, j].double(), left @ right / left.norm() / right.norm())


def test_labels_are_not_seen_and_oneself_is_most_alike(tiny):
    train, _, members = tiny
    wrong = Split(train.inputs, (train.labels + 1) % 3, train.indices)
    (cosine,) = score("repsim", members[-1:], train, train)
    members[-1].cache.clear()
    (other,) = score("repsim", members[-1:], wrong, train)
    assert torch.equal(cosine, other)
    torch.testing.assert_close(cosine.diagonal(), torch.ones_like(cosine.diagonal()))


def test_representation_that_is_exactly_zero_scores_zero(tiny):
    train, test, members = tiny
    member = members[0]
    with torch.no_grad():
        for parameter in member.model[3].parameters():
            parameter.zero_()
    (cosine,) = score("repsim", [member], train, test)
    assert (cosine == 0).all()
