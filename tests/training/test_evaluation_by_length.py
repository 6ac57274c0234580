"""Texts of similar length are evaluated together, without their padding, and nothing that anyone reads is another number."""

import pytest
import torch

from tda.training.evaluation import evaluate, of_logits


@pytest.mark.parametrize("tiny", ["bert", "gpt", "t5", "llama"], indirect=True)
def test_groups_of_similar_length_give_the_same(tiny):
    _, test, members = tiny
    model, objective = members[0].model, members[0].objective
    lengths = []
    hook = model.register_forward_pre_hook(
        lambda module, _, arguments: lengths.append(arguments["attention_mask"].shape[1]), with_kwargs=True
    )
    model.ignores_padding = False
    expected, of_each = evaluate(model, objective, test), of_logits(model, test, objective.margin)
    assert set(lengths) == {test.inputs["attention_mask"].shape[1]}
    model.ignores_padding, whole = True, lengths.copy()
    lengths.clear()
    found = evaluate(model, objective, test)
    hook.remove()
    assert len(lengths) >= 4 * len(whole) // 2 and min(lengths) < whole[0]
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.margins, expected.margins, rtol=1e-10, atol=1e-12)
    assert torch.equal(found.predictions, expected.predictions)
    torch.testing.assert_close(of_logits(model, test, objective.margin), of_each, rtol=1e-10, atol=1e-12)
