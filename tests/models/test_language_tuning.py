"""Language models with adapters, on a tiny Llama: what is trained, that nothing changes at first, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_texts
import torch
from tiny_texts import ANSWERS, TOKENS, encode, encode_answers
from torch import nn

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.objectives import NextToken
from tda.models import language_bases
from tda.models.families import ModelFamily, family_named, new_model
from tda.models.fine_tuning import LanguageTuning, TextTuning
from tda.models.language_bases import language_base
from tda.system.errors import UserError
from tda.system.inputs import call

TEXTS = ["the cat sleeps", "a dog runs fast here now", "the bird sings well", "a cat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An untrained Llama for the tiny texts, as save_pretrained writes it."""
    tiny_texts.small_llama_base().save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def family_of(folder: Path, **choices: object) -> ModelFamily:
    return family_named("smollm2").with_choices(LanguageTuning(base=str(folder), **choices))


def test_adapters_alone_are_trained_and_change_nothing_at_first(folder: Path):
    from transformers import LlamaForCausalLM

    family, tokens = family_of(folder, rank=2), encode(TEXTS)
    model = new_model(family, TOKENS, 1)
    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert len(trained) == 2 * 2 * 2 and all("lora_" in name for name in trained)
    plain = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    torch.testing.assert_close(call(model, tokens), plain(**tokens).logits, rtol=1e-5, atol=1e-5)
    same, other = new_model(family, TOKENS, 1), new_model(family, TOKENS, 2)
    first = next(iter(trained))
    assert torch.equal(same.get_parameter(first), trained[first])
    assert not torch.equal(other.get_parameter(first), trained[first])
    frozen = [name for name, part in model.named_parameters() if not part.requires_grad]
    assert all(same.get_parameter(name).data_ptr() == model.get_parameter(name).data_ptr() for name in frozen)


def test_padding_and_batch_change_nothing(folder: Path):
    model, short = new_model(family_of(folder), TOKENS, 1), encode(TEXTS)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    fill = {"input_ids": 5, "attention_mask": 0}
    long = {name: nn.functional.pad(part, (0, 4), value=fill[name]) for name, part in short.items()}
    objective = NextToken()
    labels, long_labels = (objective.labels(inputs, torch.zeros(4)) for inputs in (short, long))
    first = gradient_kernel(model, (short, labels), (short, labels), objective.loss).cross
    other = gradient_kernel(model, (long, long_labels), (short, labels), objective.loss, block_size=3).cross
    torch.testing.assert_close(other, first, rtol=1e-5, atol=1e-5 * float(first.abs().max()))


def test_adapters_of_t5_read_a_text_and_write_an_answer(tmp_path: Path):
    from transformers import T5ForConditionalGeneration

    tiny_texts.save_t5_base(tmp_path / "t5")
    family, tokens = (
        family_named("t5_lora").with_choices(LanguageTuning(base=str(tmp_path / "t5"), rank=2)),
        encode_answers(TEXTS),
    )
    model = new_model(family, ANSWERS, 1)
    trained = [name for name, part in model.named_parameters() if part.requires_grad]
    # Two layers of the encoder, two of the decoder with two attentions each; queries and values; two matrices.
    assert len(trained) == (2 + 2 * 2) * 2 * 2 and all("lora_" in name for name in trained)
    plain = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5", attn_implementation="eager").eval()
    torch.testing.assert_close(call(model, tokens), plain(**tokens).logits, rtol=1e-5, atol=1e-5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3)
    exact, objective = model.double(), NextToken()
    labels = objective.labels(tokens, torch.zeros(4))
    found = gradient_kernel(exact, (tokens, labels), (tokens, labels), objective.loss).cross
    parameters = [part for part in exact.parameters() if part.requires_grad]
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in objective.loss(call(exact, tokens), labels)]
    gradients = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    torch.testing.assert_close(found, gradients @ gradients.T, rtol=1e-9, atol=1e-12)


def test_models_and_tasks_without_answers_do_not_go_with_those_that_have_some(folder: Path, tmp_path: Path):
    tiny_texts.save_t5_base(tmp_path / "t5")
    of_t5 = family_named("t5_lora").with_choices(LanguageTuning(base=str(tmp_path / "t5")))
    with pytest.raises(UserError, match="have no answers, such as t5 writes; choose another --task or --model"):
        new_model(of_t5, TOKENS, 1)
    for family in (family_of(folder), family_named("gpt")):
        with pytest.raises(UserError, match="have answers, such as gpt has no use for"):
            new_model(family, ANSWERS, 1)
    with pytest.raises(UserError, match="base smollm2 does not answer texts; give --base a T5 or mT5"):
        new_model(family_named("t5_lora"), ANSWERS, 1)
    with pytest.raises(UserError, match="llama cannot be loaded as a model that answers texts"):
        new_model(family_named("t5_lora").with_choices(LanguageTuning(base=str(folder))), ANSWERS, 1)


def test_the_plan_and_the_origin_name_what_a_member_is_made_from(folder: Path):
    family = family_of(folder, rank=3)
    plan = family.plan(TOKENS)
    assert plan.decoupled_decay and plan.warm_up == 0.1 and plan.kept_epochs == [6]
    assert family.origin(TOKENS) == {
        "base": str(folder),
        "rank": 3,
        "alpha": 16,
        "base_sha256": language_base(str(folder), TOKENS).sha256,
    }


def test_a_gguf_file_holds_the_model_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gguf")
    from gguf_files import tiny_llama, write_gguf

    model, path = tiny_llama(), tmp_path / "tiny.gguf"
    write_gguf(path, model)
    monkeypatch.setattr(language_bases, "smollm2_file", lambda: path)
    monkeypatch.setattr(language_bases, "_check_tokens", lambda *_: None)
    language_bases._loaded.cache_clear()
    base = language_base("smollm2", TOKENS)
    language_bases._loaded.cache_clear()
    tokens = torch.tensor([[3, 4, 5, 7, 8, 9]])
    torch.testing.assert_close(base.network(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-4)


def test_wrong_bases_and_choices_are_one_sentence(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="rank of adapters must be 1 or more"):
        LanguageTuning(rank=0)
    with pytest.raises(UserError, match="is fine-tuned in another way; train it with run_language_training.py"):
        family_named("smollm2").with_choices(TextTuning())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty cannot be loaded as a language model"):
        new_model(family_of(tmp_path / "empty"), TOKENS, 1)
    longer = replace(tiny_texts.vocabulary(), size=99)
    task = replace(TOKENS, kind=replace(TOKENS.kind, vocabulary=lambda: longer))
    with pytest.raises(UserError, match="knows 14 tokens, and task tiny_language has 99"):
        new_model(family_of(folder), task, 1)
