"""Continuations: greedy decoding, what counts of a text, and the examples that ask about it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_facts
import torch
from torch import nn

from tda.data.tasks import task_named
from tda.facts.continuations import (
    Continued,
    asking_split,
    check_causal,
    given_continuation,
    greedy,
    log_probability,
    prompt_tokens,
    token_texts,
)
from tda.gradients.objectives import NextToken
from tda.models.language_models import Sizes, causal
from tda.system.errors import UserError


@pytest.fixture
def kind(root: Path):
    return tiny_facts.TASK.kind


class _Counting(nn.Module):
    """Says the token after the last one's number, and ends the text at `last`."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        following = torch.where(input_ids == self.last, 1, input_ids + 1)
        return nn.functional.one_hot(following, 400).float()


def test_greedy_takes_the_most_probable_until_the_text_ends(kind):
    cpu = torch.device("cpu")
    assert greedy(_Counting(300), kind, (1, 50), 4, cpu) == Continued((1, 50, 51, 52, 53, 54), 4)
    assert greedy(_Counting(52), kind, (1, 50), 4, cpu) == Continued((1, 50, 51, 52), 2)
    assert greedy(_Counting(300), kind, (1, 50), 100, cpu).tokens == (1, *range(50, 58))
    assert greedy(_Counting(50), kind, (1, 50), 4, cpu).count == 0


def test_a_given_continuation_counts_its_own_tokens(kind):
    prompt = prompt_tokens(kind, "anna lives in")
    assert prompt[0] == kind.vocabulary().end and kind.vocabulary().end not in prompt[1:]
    continued = given_continuation(kind, "anna lives in", "rome")
    assert continued.tokens[: -continued.count] == prompt
    assert "".join(token_texts(kind, continued)) == " rome"
    assert given_continuation(kind, "anna lives in ", "rome").count == continued.count


def test_examples_that_ask_for_the_whole_and_for_each_token(kind):
    model = causal(Sizes(width=8, layers=1, heads=2, hidden=8), tiny_facts.TASK).double().eval()
    continued = given_continuation(kind, "anna", "lives in rome")
    split = asking_split(kind, continued)
    assert len(split) == 1 + continued.count
    losses = NextToken().loss(model(**split.inputs).logits, split.labels)
    torch.testing.assert_close(losses[0], losses[1:].mean())
    chances = log_probability(model, split)
    logits = model(torch.tensor([continued.tokens])).logits[0].log_softmax(1)
    first = len(continued.tokens) - continued.count
    expected = [logits[place - 1, continued.tokens[place]] for place in range(first, len(continued.tokens))]
    torch.testing.assert_close(chances, torch.stack(expected))


@pytest.mark.parametrize(("prompt", "words"), [("", "no letters"), ("  ", "no letters"), ("anna lives in " * 9, "shorten it")])
def test_unusable_prompts_are_refused(kind, prompt: str, words: str):
    with pytest.raises(UserError, match=words):
        prompt_tokens(kind, prompt)


@pytest.mark.parametrize(("continuation", "words"), [(" ", "no tokens to attribute"), (" rome" * 30, "shorten them")])
def test_unusable_continuations_are_refused(kind, continuation: str, words: str):
    with pytest.raises(UserError, match=words):
        given_continuation(kind, "anna lives in", continuation)


def test_tasks_without_prompts_are_refused():
    for name in ("digits3", "pararel_questions", "qnli"):
        with pytest.raises(UserError, match=f"task {name} is of no causal language model"):
            check_causal(task_named(name))
    assert check_causal(task_named("pararel")) is task_named("pararel").kind


def test_a_letter_of_several_tokens_is_told_by_the_last(kind):
    texts = token_texts(kind, given_continuation(kind, "rome", " \u9996"))
    assert "".join(texts) == " \u9996" and texts[-1].endswith("\u9996") and not any("\ufffd" in text for text in texts)


@pytest.mark.parametrize(
    ("prompt", "continuation", "together"),
    [("lives in", "rome", "lives in rome"), ("\u9996", "\u90fd", "\u9996\u90fd"), ("rome", ".", "rome.")],
)
def test_a_space_is_put_only_between_words_that_spaces_part(kind, prompt: str, continuation: str, together: str):
    tokens = given_continuation(kind, prompt, continuation).tokens
    assert list(tokens) == kind.encode([together])["input_ids"][0, : len(tokens)].tolist()


def test_models_that_end_texts_by_one_of_several_tokens(kind):
    model = _Counting(300)
    model.config = SimpleNamespace(eos_token_id=[53, 7])
    assert greedy(model, kind, (1, 50), 4, torch.device("cpu")) == Continued((1, 50, 51, 52), 2)
