"""Small GPT-2 and T5: numbers of parameters, and that padding, length and batch change nothing."""

from types import SimpleNamespace

import pytest
import tiny_texts
import torch
from tiny_texts import ANSWERS, TOKENS, encode, encode_answers
from torch import Tensor, nn

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.layer_rows import has_formula
from tda.gradients.objectives import NextToken
from tda.methods.ekfac import scores_by_ekfac
from tda.models.families import family_named, new_model
from tda.models.language_models import Sizes, causal, encoder_decoder
from tda.system.errors import UserError
from tda.system.inputs import call

TEXTS = ["the cat sleeps", "a dog runs fast here now", "the bird sings well", "a cat"]


def padded(inputs: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The same texts with more padding, of another token than 0, that the masks leave out."""
    return {name: nn.functional.pad(part, (0, count), value=0 if name.endswith("mask") else 5) for name, part in inputs.items()}


@pytest.mark.parametrize("name", ["gpt", "t5"])
def test_padding_length_and_batch_change_nothing(name: str):
    task = TOKENS if name == "gpt" else ANSWERS
    longer = tiny_texts.replace(task.kind.vocabulary(), length=tiny_texts.LENGTH + 4)
    task = tiny_texts.replace(task, kind=tiny_texts.replace(task.kind, vocabulary=lambda: longer))
    model = (tiny_texts.small_gpt if name == "gpt" else tiny_texts.small_t5)(task).eval()
    short = (encode if name == "gpt" else encode_answers)(TEXTS)
    objective, long = NextToken(), padded(short, 4)
    labels, long_labels = (objective.labels(inputs, torch.zeros(4)) for inputs in (short, long))
    losses = objective.loss(call(model, short), labels)
    torch.testing.assert_close(objective.loss(call(model, long), long_labels), losses, rtol=1e-5, atol=1e-6)
    alone = [objective.loss(call(model, {k: v[[i]] for k, v in short.items()}), labels[[i]]) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), losses, rtol=1e-5, atol=1e-6)
    first = gradient_kernel(model, (short, labels), (short, labels), objective.loss).cross
    other = gradient_kernel(model, (long, long_labels), (short, labels), objective.loss, block_size=3).cross
    torch.testing.assert_close(other, first, rtol=1e-5, atol=1e-5 * float(first.abs().max()))


@pytest.mark.parametrize("name", ["gpt", "t5", "llama"])
def test_gradients_of_texts_of_similar_length_are_those_of_the_padded_batch(name: str):
    task, encoded = (ANSWERS, encode_answers) if name == "t5" else (TOKENS, encode)
    model = getattr(tiny_texts, f"small_{name}")(task).double().eval()
    assert model.ignores_padding
    inputs = padded(encoded([*TEXTS, *reversed(TEXTS), *TEXTS]), 4)
    if name == "gpt":
        inputs = encoded([*TEXTS, *reversed(TEXTS), *TEXTS])
    labels, loss = NextToken().labels(inputs, torch.zeros(12)), NextToken().loss
    grouped = gradient_kernel(model, (inputs, labels), (inputs, labels), loss)
    model.ignores_padding = False
    whole = gradient_kernel(model, (inputs, labels), (inputs, labels), loss)
    torch.testing.assert_close(grouped.cross, whole.cross, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grouped.left_norms, whole.left_norms, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("matrix", ["fisher", "empirical_fisher"])
def test_ekfac_sees_no_padding(matrix: str):
    model, objective, short = tiny_texts.small_llama(TOKENS).double().eval(), NextToken(), encode(TEXTS)
    member, found = SimpleNamespace(model=model, objective=objective, seed=0, epoch=1), []
    filled = short | {"input_ids": short["input_ids"].where(short["attention_mask"] > 0, 5)}
    for inputs in (short, padded(filled, 4)):
        split = Split(inputs, objective.labels(inputs, torch.zeros(4)), torch.arange(4))
        found.append(scores_by_ekfac(member, split, split, matrix, 0.1).scores)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-8 * float(found[0].abs().max()))


def test_the_numbers_are_those_of_transformers_own_models():
    """T5 with its own norms and positions, and GPT-2 with its own layers, from the same weights."""
    from transformers import GPT2LMHeadModel, T5ForConditionalGeneration

    for make, kind, inputs in (
        (tiny_texts.small_gpt, GPT2LMHeadModel, encode(TEXTS)),
        (tiny_texts.small_t5, T5ForConditionalGeneration, encode_answers(TEXTS)),
    ):
        model = make(ANSWERS if kind is T5ForConditionalGeneration else TOKENS).eval()
        plain = kind._from_config(model.config, attn_implementation="eager").eval()
        plain.lm_head.weight = nn.Parameter(plain.lm_head.weight.detach().clone())
        state = model.state_dict()
        turned = {f"{name}.weight" for name, module in plain.named_modules() if type(module).__name__ == "Conv1D"}
        plain.load_state_dict({name: part.T if name in turned else part for name, part in state.items()})
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, rtol=1e-5, atol=1e-5)


def test_every_layer_has_a_formula():
    for build, task, inputs in ((causal, TOKENS, encode(TEXTS)), (encoder_decoder, ANSWERS, encode_answers(TEXTS))):
        model = build(Sizes(width=8, layers=2, heads=2, hidden=16), task)
        plan = plan_gradients(model, inputs)
        assert plan.whole_model == []
        assert all(has_formula(layer) for layer in plan.layers)
        assert {name for layer in plan.layers for name in layer.parameters.values()} == set(plan.shapes)


def test_initialisation_follows_the_seed():
    family = family_named("gpt")
    first, same, other = (new_model(family, TOKENS, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    layer = 4 * 128**2 + 4 * 128 + 2 * 128 * 512 + 512 + 128 + 4 * 128
    assert sum(p.numel() for p in new_model(family, TOKENS, 1).parameters()) == (14 + 6 + 14) * 128 + 4 * layer + 256


def test_the_mini_t5_has_two_layers_of_width_64_on_either_side():
    # T5's layers have no biases; its first layer of either side knows relative positions, of which there are 32 kinds.
    attention, feed = 4 * 64**2, 2 * 64 * 256
    encoder, decoder = 2 * (attention + feed + 2 * 64), 2 * (2 * attention + feed + 3 * 64)
    expected = 2 * 14 * 64 + encoder + decoder + 2 * 64 + 2 * 32 * 2
    assert sum(part.numel() for part in new_model(family_named("t5_mini"), ANSWERS, 1).parameters()) == expected


def test_plan_warms_up_and_decays():
    plan = family_named("t5").plan(ANSWERS)
    assert plan.decoupled_decay and plan.warm_up == 0.05 and plan.linear_decay and plan.kept_epochs == [5, 6]


def test_tasks_without_known_tokens_are_refused():
    with pytest.raises(UserError, match="task digits3 has no texts whose vocabulary is known"):
        new_model(family_named("gpt"), task_named("digits3"), 1)
