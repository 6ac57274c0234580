"""Model families: what a seed fixes of a new model, and choices of fine-tuning."""

from types import SimpleNamespace

import pytest
import torch
from tiny_texts import CLASSES, encode

from tda.data.tasks import task_named
from tda.models import layer_tuning
from tda.models.families import FAMILIES, family_named, new_model
from tda.models.fine_tuning import AdapterTuning, LayerTuning
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError


def test_initialisation_and_batch_order_vary_apart():
    family, task = family_named("cnn"), task_named("digits3")
    plan = TrainingPlan(epochs=2)
    weights = [torch.cat([p.flatten() for p in new_model(family, task, seed).parameters()]) for seed in (1, 1, 2)]
    orders = [torch.cat(plan.batches(seed, 40)) for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    new_model(family_named("cnn"), task_named("digits3"), seed=1)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name, usual", [("resnet18", "torchvision"), ("efficientnet_lite0", "package")])
def test_pretrained_stands_for_the_usual_weights(name: str, usual: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layer_tuning, "base_of", lambda load, base: SimpleNamespace(sha256=f"hash of {base}"))
    families = [family_named(name).with_choices(LayerTuning(base)) for base in ("pretrained", usual)]
    origins = [family.origin(task_named("digits3")) for family in families]
    assert origins[0] == origins[1] and origins[0]["base_sha256"] == f"hash of {usual}"


def test_inputs_are_the_split_s_where_a_family_says_nothing_else():
    texts = encode(["the cat sleeps"])
    assert family_named("cnn").inputs(CLASSES, texts, torch.device("cpu")) is texts


def test_pixels_are_the_images_with_the_kind_s_scale():
    images, kind = torch.zeros(2, 3, 32, 32), task_named("cifar10").kind
    pixels = family_named("cnn").pixels(task_named("cifar10"), images)
    assert pixels.images is images and pixels.mean == kind.mean and pixels.std == kind.std


def test_choices_of_fine_tuning_make_another_family_of_the_same_name():
    family, choices = family_named("vit"), AdapterTuning("a base", rank=2, random_crop=True)
    chosen = family.with_choices(choices)
    assert (chosen.name, chosen.choices, family.choices) == ("vit", choices, None)
    assert chosen.plan(task_named("digits3")).random_crop and not family.plan(task_named("digits3")).random_crop
    for name, script in (("resnet18", "image"), ("efficientnet_lite0", "image"), ("bert", "text")):
        with pytest.raises(UserError, match=f"model {name} is fine-tuned in another way; train it with run_{script}_fine"):
            family_named(name).with_choices(choices)
    for name, script in (("smollm2", "language"), ("t5_lora", "language"), ("clip", "clip")):
        with pytest.raises(
            UserError, match=f"model {name} is fine-tuned in another way; train it with run_{script}_training.py"
        ):
            family_named(name).with_choices(choices)
    for name in set(FAMILIES) - {"vit", "resnet18", "efficientnet_lite0", "bert", "smollm2", "t5_lora", "clip"}:
        with pytest.raises(UserError, match=f"model {name} is not fine-tuned from a base; train it with run_"):
            family_named(name).with_choices(choices)
