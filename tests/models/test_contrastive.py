"""Contrastive models: whom a pair is compared with, and that its gradient is that of itself alone."""

import copy

import pytest
import tiny_pairs
import torch
from torch.nn import functional

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.objectives import Pairing
from tda.gradients.representations import penultimate_representations
from tda.models.contrastive import ContrastiveModel
from tda.models.pair_tuning import company
from tda.system.errors import UserError
from tda.system.inputs import call, chosen

OBJECTIVE = Pairing()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    found = tiny_pairs.TASK.kind.inputs(tiny_pairs.pairs("train").examples)
    return {name: part.double() if part.is_floating_point() else part for name, part in found.items()}


@pytest.fixture
def model(inputs: dict[str, torch.Tensor]) -> ContrastiveModel:
    torch.manual_seed(0)
    found = tiny_pairs.two_towers().double()
    found.meet(chosen(inputs, slice(0, 6)))
    return found


def labels_of(count: int) -> torch.Tensor:
    return torch.zeros(count, 2, dtype=torch.int64)


def similarities(model: ContrastiveModel, left: dict, right: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled similarities of the left images with the right texts, and of the left texts with the right images."""
    (images, texts), (other_images, other_texts) = model.embeddings(left), model.embeddings(right)
    scale = model.comparison.logit_scale.exp()
    return scale * images @ other_texts.T, scale * texts @ other_images.T


def test_training_is_the_symmetric_loss_of_clip(model: ContrastiveModel, inputs: dict):
    batch = chosen(inputs, [3, 9, 11, 20])
    model.train()
    logits = call(model, batch)
    of_images, of_texts = similarities(model, batch, batch)
    numbers = torch.arange(4)
    expected = (functional.cross_entropy(of_images, numbers) + functional.cross_entropy(of_texts, numbers)) / 2
    torch.testing.assert_close(OBJECTIVE.loss(logits, labels_of(4)).mean(), expected)
    torch.testing.assert_close(of_images.T, of_texts)
    assert call(model, chosen(inputs, [3])).shape == (1, 2, 1)


def test_a_pair_is_compared_with_the_company_but_not_with_itself(model: ContrastiveModel, inputs: dict):
    logits = call(model, inputs)
    assert logits.shape == (40, 2, 6)
    sides = similarities(model, inputs, chosen(inputs, slice(0, 6)))
    own = model.comparison.logit_scale.exp() * torch.stack(model.embeddings(inputs)).prod(0).sum(1)
    for row in range(40):
        others = [place for place in range(6) if place != row] if row < 6 else list(range(5))
        for side in range(2):
            torch.testing.assert_close(logits[row, side, 0], own[row])
            found, expected = logits[row, side, 1:].sort().values, sides[side][row, others].sort().values
            torch.testing.assert_close(found, expected)
    for row in (2, 30):
        torch.testing.assert_close(call(model, chosen(inputs, [row]))[0], logits[row])


def test_gradients_are_those_of_single_pairs_with_the_company_held_fixed(model: ContrastiveModel, inputs: dict):
    left, right = chosen(inputs, slice(0, 9)), chosen(inputs, slice(9, 13))
    with torch.no_grad():
        company = [part.clone() for part in model.embeddings(chosen(inputs, slice(0, 6)))]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert model.comparison.logit_scale.shape == () and len(parameters) == 6

    def gradient(example: dict, row: int) -> torch.Tensor:
        image, text = model.embeddings(example)
        scale = model.comparison.logit_scale.exp()
        others = [place for place in range(6) if place != row] if row < 6 else list(range(5))
        own = (image * text).sum(1, keepdim=True)
        sides = [torch.cat([own, one @ other[others].T], 1) for one, other in ((image, company[1]), (text, company[0]))]
        value = sum(-(side[:, 1:] - side[:, :1]).mul(scale).logsumexp(1) for side in sides) / 2
        return torch.cat([part.flatten() for part in torch.autograd.grad(value.sum(), parameters)])

    rows = torch.stack([gradient(chosen(inputs, [row]), row) for row in range(13)])
    kernel = gradient_kernel(model, (left, labels_of(9)), (right, labels_of(4)), OBJECTIVE.margin, left_gram=True)
    torch.testing.assert_close(kernel.left_gram, rows[:9] @ rows[:9].T)
    torch.testing.assert_close(kernel.cross, rows[:9] @ rows[9:].T)


def test_representations_are_both_embeddings(model: ContrastiveModel, inputs: dict):
    found = penultimate_representations(model, inputs)
    torch.testing.assert_close(found, torch.cat(model.embeddings(inputs), dim=1).detach())


def test_the_company_follows_the_parameters_and_copies_are_apart(model: ContrastiveModel, inputs: dict):
    before = call(model, inputs)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(call(twin, inputs), before)
    with torch.no_grad():
        for parameter in twin.sides.parameters():
            parameter.mul_(1.5).add_(0.1)
    fresh = tiny_pairs.two_towers().double()
    fresh.load_state_dict(twin.state_dict(), strict=False)
    fresh.meet(chosen(inputs, slice(0, 6)))
    torch.testing.assert_close(call(twin, inputs), call(fresh, inputs))
    torch.testing.assert_close(call(model, inputs), before)
    single = copy.deepcopy(model).float()
    found = call(single, {name: part.float() if part.is_floating_point() else part for name, part in inputs.items()})
    torch.testing.assert_close(found.double(), before, rtol=1e-4, atol=1e-4)
    assert all("company" not in name for name, part in model.named_parameters() if part.requires_grad)


def test_the_scale_has_an_end(model: ContrastiveModel, inputs: dict):
    with torch.no_grad():
        model.comparison.logit_scale.fill_(9.0)
    assert call(model, inputs).abs().max() <= 100 + 1e-9


def test_without_company_nothing_can_be_scored(inputs: dict):
    with pytest.raises(UserError, match="has no company"):
        call(tiny_pairs.two_towers().double(), inputs)


def test_images_that_differ_in_a_single_number_are_not_taken_for_one(model: ContrastiveModel, inputs: dict):
    """What tells a drawing from another may be a few pixels."""
    pairs = {name: part.clone() for name, part in inputs.items()}
    pixels = pairs[model.pixels]
    pixels[:] = pixels[0]
    for place in range(len(pixels)):
        pixels[place].view(-1)[1 + place] += 0.5
    assert len(set(model.picture_of(pairs).tolist())) == len(pixels)
    assert torch.equal(model.picture_of(chosen(pairs, [3, 3])), model.picture_of(chosen(pairs, [3])).repeat(2))


def test_the_company_is_of_different_images(inputs: dict):
    pairs = {name: part.clone() for name, part in inputs.items()}
    found = tiny_pairs.two_towers().double()
    pairs[found.pixels][1:4] = pairs[found.pixels][0]
    company(found, pairs)
    met = found.picture_of(dict(found.company.items()))
    assert len(met) == len(set(met.tolist())) == len(set(found.picture_of(pairs).tolist()))
