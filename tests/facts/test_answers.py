"""Answers: log-probability and rank of whole answers, against a loop over tokens."""

import pytest
import tiny_texts
import torch

from tda.data.splits import Split
from tda.facts.answers import as_answers, measured_answers
from tda.system.inputs import call, chosen


@pytest.mark.parametrize("name", ["gpt", "t5"])
def test_log_probability_is_the_sum_and_rank_the_worst_of_the_tokens(name: str):
    texts = ["the cat sleeps", "a dog runs fast here now", "the bird sings well"]
    task = tiny_texts.TOKENS if name == "gpt" else tiny_texts.ANSWERS
    model = (tiny_texts.small_gpt if name == "gpt" else tiny_texts.small_t5)(task).double().eval()
    inputs = (tiny_texts.encode if name == "gpt" else tiny_texts.encode_answers)(texts)
    labels = task.objective.labels(inputs, torch.zeros(3)).clone()
    labels[:, 1] = -100
    split = Split(inputs, labels, torch.arange(3))
    found = as_answers(measured_answers(model, split))
    for row in range(3):
        logits = call(model, chosen(inputs, slice(row, row + 1)))[0].detach()
        total, worst = 0.0, 1
        for place in range(1, labels.shape[1]):
            if labels[row, place] >= 0:
                chances = logits[place - 1].softmax(0)
                own = chances[labels[row, place]]
                total += float(own.log())
                worst = max(worst, 1 + int((chances > own).sum()))
        assert found.log_probability[row] == pytest.approx(total, rel=1e-9)
        assert found.rank[row] == worst
    loss = task.objective.loss(call(model, inputs), labels)
    counted = (labels[:, 1:] >= 0).sum(1)
    torch.testing.assert_close(torch.tensor(-found.log_probability), (loss * counted).detach())
