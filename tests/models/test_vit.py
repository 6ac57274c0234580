"""Vision transformers with LoRA: what is trained, what is shared, what goes in, and which bases and checkpoints are refused."""

import copy
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import EXPERIMENT, assert_refused, contents, run_script, shrink_embedded_base

from tda.data.index_files import draw_subset
from tda.data.pools import Pool
from tda.data.tasks import task_named
from tda.experiments.folders import embedded_base_folder
from tda.models import vit, vit_pretraining
from tda.models.families import family_named, new_model
from tda.models.fine_tuning import AdapterTuning
from tda.models.lora import LowRankClassifier, projections
from tda.models.model_state import trained_parameters
from tda.models.vit_base import load_base, pixel_values
from tda.system.errors import UserError
from tda.training.ensembles import train_ensemble
from tda.training.members import Member, load_member
from tda.training.study import open_study

VIT = replace(EXPERIMENT, model="vit")
DIGITS = task_named("digits3")
RENAMED = {
    r"vit\.layers\.(\d+)\.attention\.(q|k|v)_proj\.": lambda m: f"vit.encoder.layer.{m[1]}.attention.attention.{OLD[m[2]]}.",
    r"vit\.layers\.(\d+)\.attention\.o_proj\.": lambda m: f"vit.encoder.layer.{m[1]}.attention.output.dense.",
    r"vit\.layers\.(\d+)\.mlp\.fc1\.": lambda m: f"vit.encoder.layer.{m[1]}.intermediate.dense.",
    r"vit\.layers\.(\d+)\.mlp\.fc2\.": lambda m: f"vit.encoder.layer.{m[1]}.output.dense.",
    r"vit\.layers\.(\d+)\.": lambda m: f"vit.encoder.layer.{m[1]}.",
}
OLD = {"q": "query", "k": "key", "v": "value"}


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A base model's folder of the test's own."""
    return shutil.copytree(tiny_base, tmp_path / "base")


def tuned(base: Path, **choices) -> LowRankClassifier:
    return vit.build(AdapterTuning(str(base), **choices), DIGITS).eval()


def test_a_task_of_more_than_ten_classes_has_a_logit_for_each(base: Path):
    task = replace(DIGITS, classes=tuple(range(12)), class_names=tuple("abcdefghijkl"))
    of_ten, of_twelve = tuned(base), vit.build(AdapterTuning(str(base)), task)
    weights = [model.network.get_submodule("classifier").weight for model in (of_ten, of_twelve)]
    assert [len(weight) for weight in weights] == [10, 12]


def untrained(kind, config):
    """A model of transformers with weights that are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config)


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_adapters_and_classifier_are_trained_and_nothing_else(base: Path):
    model = tuned(base, rank=3)
    names = trained_parameters(model)
    adapters = [name for name in names if "lora_" in name]
    assert len(adapters) == 2 * 2 * 2 and set(names) - set(adapters) == {
        "network.classifier.weight",
        "network.classifier.bias",
    }
    assert sum(parameter.numel() for parameter in names.values()) == 2 * 2 * 2 * 3 * 8 + 8 * 10 + 10
    assert all(re.search(r"\.(q_proj|query|v_proj|value)\.", name) for name in adapters)


def test_frozen_weights_are_shared_and_copies_convert_alone(base: Path):
    first, second = tuned(base), tuned(base)
    duplicate = copy.deepcopy(first).double()
    for name, parameter in first.named_parameters():
        same = second.get_parameter(name).data_ptr() == parameter.data_ptr()
        assert same != parameter.requires_grad, name
        assert parameter.dtype == torch.float32 and duplicate.get_parameter(name).dtype == torch.float64


def test_new_adapters_change_nothing(base: Path):
    model, network = tuned(base), load_base(str(base)).network
    images = random_images(3)
    with torch.no_grad():
        model.network.classifier = network.classifier
        torch.testing.assert_close(model(images), network(images).logits)


def test_seed_fixes_the_initialisation(base: Path):
    family = family_named("vit").with_choices(AdapterTuning(str(base)))
    first, again, other = (trained_parameters(new_model(family, DIGITS, seed)) for seed in (1, 1, 2))
    for name, parameter in first.items():
        assert torch.equal(parameter, again[name])
        assert torch.equal(parameter, other[name]) == ("lora_B" in name or "bias" in name)


def test_embedded_tokens_give_the_logits_of_the_images(base: Path):
    images, model = six_digits(), tuned(base)
    tokens = vit.inputs(AdapterTuning(str(base)), DIGITS, images)
    pixels = vit.inputs(AdapterTuning(str(base), random_crop=True), DIGITS, images)
    assert tokens.shape == (6, 5, 8) and pixels.shape == (6, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), model(pixels))


def six_digits() -> torch.Tensor:
    return DIGITS.kind.inputs(DIGITS.load("train").examples[:6])


def random_images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_inputs_are_those_of_the_processor(base: Path):
    """Brought to the base's size and scale, twice the same, grey repeated where the base takes colours."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    untrained(ViTForImageClassification, ViTConfig(**sizes, image_size=32, patch_size=16)).save_pretrained(base)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=mean, image_std=std)
    processor.save_pretrained(base)
    images = six_digits()
    found = pixel_values(load_base(str(base)), images)
    coloured = (images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
    larger = torch.nn.functional.interpolate(coloured.float(), (32, 32), mode="bilinear").round() / 255
    expected = (larger - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    # A grey level of 255 is the rounding of the resized bytes.
    torch.testing.assert_close(found, expected, rtol=0, atol=1.01 / 255 / 0.4)
    assert torch.equal(found, pixel_values(load_base(str(base)), images))


def write_as_older_transformers(base: Path) -> None:
    weights = safetensors.torch.load_file(base / "model.safetensors")
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in RENAMED.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    safetensors.torch.save_file(renamed, base / "model.safetensors", {"format": "pt"})
    edit_json(base / "config.json", lambda config: config.update(transformers_version="4.30.0"))
    older = {"do_normalize": True, "do_resize": True, "image_mean": [0.5], "image_std": [0.5], "size": 28}
    (base / "preprocessor_config.json").write_text(json.dumps(older))


def test_folder_of_an_older_transformers_is_the_same_base(base: Path, tmp_path: Path):
    older = shutil.copytree(base, tmp_path / "older")
    write_as_older_transformers(older)
    names = safetensors.torch.load_file(older / "model.safetensors")
    assert any(".attention.attention.query." in name for name in names)
    left, right = load_base(str(base)), load_base(str(older))
    images = random_images(2)
    with torch.no_grad():
        torch.testing.assert_close(left.network(images).logits, right.network(images).logits)
    assert left.sha256 == right.sha256
    torch.testing.assert_close(pixel_values(left, images), pixel_values(right, images))


def test_deit_is_of_the_same_shape(tmp_path: Path):
    from transformers import DeiTConfig, DeiTForImageClassification, DeiTImageProcessor

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    untrained(DeiTForImageClassification, DeiTConfig(**sizes, image_size=28, patch_size=14)).save_pretrained(tmp_path)
    size = {"height": 28, "width": 28}
    DeiTImageProcessor(size={"height": 32, "width": 32}, crop_size=size).save_pretrained(tmp_path)
    tokens = vit.inputs(AdapterTuning(str(tmp_path)), DIGITS, six_digits())
    assert tokens.shape == (6, 6, 8) and len(projections(load_base(str(tmp_path)))) == 4
    assert tuned(tmp_path)(tokens).shape == (6, 10)


def test_base_without_attention_projections_is_refused(tmp_path: Path):
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    config = ConvNextConfig(hidden_sizes=[4, 4, 4, 4], depths=[1] * 4)
    untrained(ConvNextForImageClassification, config).save_pretrained(tmp_path)
    ConvNextImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no attention projections named q_proj/v_proj or query/value"):
        tuned(tmp_path)


def remove_a_weight(base: Path) -> None:
    weights = safetensors.torch.load_file(base / "model.safetensors")
    weights.pop(next(name for name in weights if "fc1.weight" in name or "intermediate.dense.weight" in name))
    safetensors.torch.save_file(weights, base / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda base: (base / "config.json").unlink(), "cannot be loaded as an image classifier.*save_pretrained"),
        (lambda base: (base / "model.safetensors").write_bytes(b"no weights"), "cannot be loaded as an image classifier"),
        (lambda base: (base / "model.safetensors").unlink(), "cannot be loaded as an image classifier"),
        (lambda base: (base / "preprocessor_config.json").unlink(), "cannot be loaded as an image classifier"),
        (remove_a_weight, "lacks the weights .*weight"),
    ],
    ids=["no configuration", "damaged weights", "no weights", "no processor", "a weight is missing"],
)
def test_incomplete_base_is_refused(base: Path, spoil, words: str):
    spoil(base)
    with pytest.raises(UserError, match=words):
        load_base(str(base))


def test_processor_of_another_size_is_refused(base: Path):
    edit_json(base / "preprocessor_config.json", lambda config: config.update(size={"height": 32, "width": 32}))
    with pytest.raises(UserError, match="makes images of 1x32x32, but the model takes 1x28x28; .*preprocessor_config.json"):
        vit.inputs(AdapterTuning(str(base)), DIGITS, six_digits())


@pytest.mark.parametrize(("choices", "words"), [({"rank": 0}, "rank .* not 0"), ({"dropout": 1.0}, "dropout .* not 1.0")])
def test_unusable_adapters_are_refused(base: Path, choices: dict, words: str):
    with pytest.raises(UserError, match=words):
        tuned(base, **choices)


def test_hub_out_of_reach_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run_script("run_vit_finetuning.py", "--num_per_class", 2, "--base", "nobody/no-such-vit", root=root)
    assert_refused(done, "nobody/no-such-vit", "neither a local folder nor cached nor reachable", "--base")
    assert not (root / "models").exists()


def fine_tune(fine_tuning: AdapterTuning, force: bool = False) -> int:
    """Train the first seed; returns how many were trained."""
    return train_ensemble(open_study(VIT, "cpu", fine_tuning), [0], force)


def load_first(fine_tuning: AdapterTuning | None = None) -> Member:
    return load_member(open_study(VIT, "cpu", fine_tuning), 0, 15)


def test_checkpoint_of_another_base_or_rank_is_refused(root: Path, base: Path, tmp_path: Path):
    choices = AdapterTuning(str(base), rank=4)
    assert fine_tune(choices) == 1
    member = load_first()
    assert member.study.family.choices == choices == load_first(choices).study.family.choices
    assert member.info["origin"]["base_sha256"] == load_base(str(base)).sha256
    assert all("lora_" in name or "classifier" in name for name in member.state.parameters)
    assert fine_tune(choices) == 0
    with pytest.raises(UserError, match="ckpt_epoch_11.* was fine-tuned with rank 4, but rank is now 8; .*--force"):
        fine_tune(replace(choices, rank=8))
    other = shutil.copytree(base, tmp_path / "other")
    with pytest.raises(UserError, match="was fine-tuned with base .*base, but base is now .*other"):
        fine_tune(replace(choices, base=str(other)))
    with pytest.raises(UserError, match="was fine-tuned with base .*base, but base is now .*other"):
        load_first(replace(choices, base=str(other)))
    assert fine_tune(replace(choices, rank=8), force=True) == 1
    weights = safetensors.torch.load_file(base / "model.safetensors")
    safetensors.torch.save_file({name: 2 * w for name, w in weights.items()}, base / "model.safetensors", {"format": "pt"})
    os.utime(base / "model.safetensors", ns=(1, 2**62))
    with pytest.raises(UserError, match="was fine-tuned with base_sha256 .*, but base_sha256 is now"):
        load_first()


def test_rate_falls_to_zero():
    assert family_named("vit").plan(DIGITS).rate(15, 15) == pytest.approx(1e-3 / 15)


def test_crops_and_half_precision_concern_the_training_only(root: Path, base: Path):
    fine_tune(AdapterTuning(str(base)))
    plain = load_first()
    fine_tune(AdapterTuning(str(base), random_crop=True), force=True)
    cropped = load_first()
    fine_tune(AdapterTuning(str(base), mixed_precision=True), force=True)
    coarse = load_first()
    name = "network.classifier.weight"
    for other in (cropped, coarse):
        difference = (other.state.parameters[name] - plain.state.parameters[name]).abs().max()
        assert 0 < difference < 0.02
    assert cropped.study.inputs(cropped.study.test).inputs.shape[1:] == (1, 28, 28)
    assert plain.study.inputs(plain.study.test).inputs.shape[1:] == (5, 8)
    assert coarse.state.parameters[name].dtype == torch.float32


def test_embedded_base_is_trained_once_and_reused(root: Path, monkeypatch: pytest.MonkeyPatch):
    shrink_embedded_base(monkeypatch)
    folder = vit_pretraining.embedded_base(DIGITS)
    assert folder == embedded_base_folder("digits3")
    report = json.loads((folder / "pretraining.json").read_text())
    assert report["images"] == (DIGITS.load("train").labels >= 3).sum()
    assert report["classes"] == 7 and report["test_accuracy"] > 1.5 / 7
    before = contents(folder, "*")
    monkeypatch.setattr(vit_pretraining, "_fit", lambda *arguments: pytest.fail("trained again"))
    vit_pretraining.embedded_base(DIGITS)
    assert contents(folder, "*") == before
    monkeypatch.undo()


def test_interrupted_pre_training_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch):
    shrink_embedded_base(monkeypatch)

    def interrupted(*arguments) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(vit_pretraining, "_fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            vit_pretraining.embedded_base(DIGITS)
    parent = embedded_base_folder("digits3").parent
    assert [path.name for path in parent.iterdir()] == [".digits3.lock"]
    assert vit_pretraining.embedded_base(DIGITS).is_dir()


def test_task_that_keeps_every_class_has_a_base_of_images_that_subsets_take_last(root: Path, monkeypatch: pytest.MonkeyPatch):
    shrink_embedded_base(monkeypatch)
    everything = replace(DIGITS, name="all_digits", classes=tuple(range(10)), class_names=tuple("0123456789"))
    pool = everything.load("train")
    (images, labels), (others, _) = vit_pretraining._pretraining_images(everything)
    half = min(np.bincount(pool.labels)) // 2
    drawn = draw_subset(everything, pool, int(half), draw_seed=0)
    seen = np.concatenate([*vit_pretraining._last_half(everything, pool).values()])
    assert not np.isin(drawn, seen).any() and len(images) + len(others) == len(seen)
    assert labels.bincount().tolist() == [
        len(each) - len(each) // 10 for each in vit_pretraining._last_half(everything, pool).values()
    ]
    vit_pretraining.check_unseen(everything, drawn)
    with pytest.raises(UserError, match="1 of these 2 training examples are among them.*--base"):
        vit_pretraining.check_unseen(everything, np.array([drawn[0], seen[3]]))
    vit_pretraining.check_unseen(DIGITS, seen)
    assert (vit_pretraining.embedded_base(everything) / "pretraining.json").exists()


def test_task_with_too_few_examples_needs_a_base(root: Path):
    pool = DIGITS.load("train")
    few = np.concatenate([np.flatnonzero(pool.labels == label)[:3] for label in range(3)])
    tiny = replace(DIGITS, load=lambda part: Pool(pool.examples[few], pool.labels[few]))
    with pytest.raises(UserError, match="keeps all classes of its data set and has fewer than two.*--base"):
        vit_pretraining.embedded_base(tiny)
    assert not embedded_base_folder("digits3").exists()
