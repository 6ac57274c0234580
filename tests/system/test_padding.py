"""Texts without their padding, and in groups of similar length."""

import pytest
import torch
from torch import Tensor, nn

from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.objectives import NextToken
from tda.system.padding import in_groups, without_padding


def test_what_no_text_of_a_batch_counts_is_cut_off():
    ids, mask = torch.arange(10).view(2, 5), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    inputs, labels = {"input_ids": ids, "attention_mask": mask}, ids.masked_fill(mask == 0, -100)
    cut, cut_labels = without_padding(inputs, labels)
    assert_same(cut, {"input_ids": ids[:, :3], "attention_mask": mask[:, :3]})
    assert torch.equal(cut_labels, labels[:, :3])
    answer = {"decoder_input_ids": ids[:, :4] + 1, "decoder_attention_mask": torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]])}
    both, cut_labels = without_padding(inputs | answer, labels[:, :4])
    assert_same(both, cut | {name: part[:, :2] for name, part in answer.items()})
    assert torch.equal(cut_labels, labels[:, :2])


@pytest.mark.parametrize("labels", [torch.zeros(2), torch.zeros(2, 5)])
def test_what_has_no_masks_or_no_tokens_for_labels_is_left_whole(labels: Tensor):
    ids = torch.arange(10).view(2, 5)
    for inputs in (ids, {"input_ids": ids}):
        assert without_padding(inputs, labels) == (inputs, labels)
    masked = {"input_ids": ids, "attention_mask": torch.zeros(2, 5)}
    assert without_padding(masked, labels)[1].shape == labels.shape


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class NextTokens(nn.Module):
    """A causal model in which a token sees those before it; counts the tokens that it computes."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.norm, self.middle = nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.head, self.computed = nn.Linear(4, 7, bias=False), 0
        if tied:
            self.head.weight = self.words.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        self.computed += input_ids.numel()
        seen = (self.words(input_ids) * attention_mask[..., None]).cumsum(dim=1)
        return self.head(torch.tanh(self.middle(self.norm(seen))))


def texts(lengths: list[int], width: int) -> tuple[dict[str, Tensor], Tensor]:
    """Tokens with padding of a token like another, and labels."""
    ids = torch.randint(7, (len(lengths), width), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}, ids.masked_fill(mask == 0, -100)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [3, 20])
def test_gradients_of_groups_are_those_of_the_whole_batch_in_its_order(tied: bool, count: int):
    lengths = [2 + (5 * number) % 9 for number in range(count)]
    (inputs, labels), loss = texts(lengths, 12), NextToken().loss
    found, computed = [], []
    for ignores in (False, True):
        model = NextTokens(tied).double().eval()
        model.ignores_padding = ignores
        plan = plan_gradients(model, inputs, None, count, count)
        plan.block_rows(inputs, labels, loss)
        before = model.computed
        rows = plan.block_rows(inputs, labels, loss)
        computed.append(model.computed - before)
        found.append((rows.dense(), rows.values, rows.squared_norms(), rows.inner(rows)))
    for whole, grouped in zip(*found, strict=True):
        torch.testing.assert_close(grouped, whole, rtol=1e-12, atol=1e-14)
    assert computed[0] == 12 * count and computed[1] < computed[0]


def test_several_quantities_of_an_example_stay_together():
    inputs, labels = texts([2 + (5 * number) % 9 for number in range(12)], 12)
    plan = plan_gradients(model := NextTokens(False).double().eval(), inputs)
    several = lambda logits, labels: torch.stack([NextToken().loss(logits, labels), logits.sum(dim=2)[:, 0]], dim=1)  # noqa: E731
    whole = plan.block_rows(inputs, labels, several).dense()
    model.ignores_padding = True
    torch.testing.assert_close(plan.block_rows(inputs, labels, several).dense(), whole, rtol=1e-12, atol=1e-14)


def test_a_quantity_for_each_token_sees_the_whole_batch():
    """A root of the curvature for each place and token: shorter texts would have fewer, and rows are told by their number."""
    inputs, labels = texts([2 + (5 * number) % 9 for number in range(12)], 12)
    plan, roots = plan_gradients(model := NextTokens(False).double().eval(), inputs), NextToken().curvature_roots
    whole = plan.block_rows(inputs, labels, roots)
    model.ignores_padding = True
    found = plan.block_rows(inputs, labels, roots)
    assert found.values.shape == whole.values.shape == (12, 11 * 7)
    torch.testing.assert_close(found.dense(), whole.dense(), rtol=1e-12, atol=1e-14)


def test_groups_are_only_made_of_texts_of_models_that_ignore_padding():
    inputs, labels = texts([3] * 9, 5)
    model = nn.Identity()
    assert in_groups(model, inputs, labels) == []
    model.ignores_padding = True
    assert [len(positions) for positions, *_ in in_groups(model, inputs, labels)] == [3, 3, 3]
    assert in_groups(model, inputs["input_ids"], labels) == []
    assert in_groups(model, inputs | {"pixel_values": torch.zeros(9, 3, 2, 2)}, labels) == []
    ((positions, cut, classes),) = in_groups(model, {name: part[:2] for name, part in inputs.items()}, torch.tensor([1, 0]))
    assert positions.tolist() == [0, 1] and classes.tolist() == [1, 0] and cut["input_ids"].shape == (2, 3)
