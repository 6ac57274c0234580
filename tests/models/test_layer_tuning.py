"""Fine-tuning of heads, upper layers and whole networks: what a model takes, what is trained, and what members remember."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import assert_refused, run_here, run_script
from tiny_texts import CLASSES
from torch import nn
from torch.nn import functional

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.quantities import cross_entropy_loss
from tda.models.families import family_named, new_model
from tda.models.fine_tuning import LayerTuning
from tda.models.image_bases import AverageOverPlaces, ImageBase, convolution
from tda.models.layer_tuning import Preparation
from tda.models.model_state import read_state, trained_buffers, trained_parameters
from tda.system.errors import UserError
from tda.training.many_models import train_many
from tda.training.members import load_member, load_members
from tda.training.runs import Run
from tda.training.stacked_models import can_be_stacked, train_stacked
from tda.training.study import open_study

DIGITS = task_named("digits3")
CPU = torch.device("cpu")
FEW = {"model": "efficientnet_lite0", "num_per_class": 2, "base": "random", "image_size": 32}


def family(name: str, trained: str):
    return family_named(name).with_choices(LayerTuning("random", trained, 32))


@pytest.mark.parametrize("channels, side, size", [(1, 28, 32), (3, 32, 128), (3, 128, 64), (3, 32, 32)])
def test_preparation_is_torch_s_antialiased_resizing_and_the_base_s_normalisation(channels: int, side: int, size: int):
    kind = replace(task_named("cifar10").kind, channels=channels, size=side, mean=(0.4,) * channels, std=(0.3,) * channels)
    base = ImageBase(nn.Sequential(), 0, 0, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "")
    pixels = torch.rand(2, channels, side, side)
    prepared = Preparation(kind, base.mean, base.std, size)((pixels - 0.4) / 0.3)
    expected = functional.interpolate(pixels.expand(-1, 3, -1, -1), (size, size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (base.mean, base.std))
    torch.testing.assert_close(prepared, (expected - mean) / std, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("trained", ["head", "upper", "all"])
def test_what_is_kept_of_an_image_gives_the_logits_of_the_image(root: Path, name: str, trained: str):
    chosen = family(name, trained)
    images = torch.rand(3, 1, 28, 28)
    model = new_model(chosen, DIGITS, seed=3)
    taken = chosen.inputs(DIGITS, images, CPU)
    shapes = {"resnet18": {"head": (512,), "upper": (256, 2, 2)}, "efficientnet_lite0": {"head": (1280,), "upper": (192, 1, 1)}}
    assert taken.shape[1:] == shapes[name].get(trained, images.shape[1:])
    with torch.no_grad():
        found, expected = model(taken), model(images)
    assert found.shape == (3, 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert chosen.pixels(DIGITS, images).images is images


def test_what_is_trained():
    counts = {}
    for name in ("resnet18", "efficientnet_lite0"):
        for trained in ("head", "upper", "all"):
            model = new_model(family(name, trained), DIGITS, seed=0)
            parameters = trained_parameters(model)
            counts[name, trained] = sum(parameter.numel() for parameter in parameters.values())
            assert {key.partition(".")[0] for key in parameters} == {"classifier", *({"above"} if trained != "head" else set())}
            assert not trained_buffers(model)
    assert counts["resnet18", "head"] == 512 * 3 + 3 and counts["efficientnet_lite0", "head"] == 1280 * 3 + 3
    assert counts["resnet18", "all"] == 11_171_712 + 512 * 3 + 3
    stage = sum(128 * width * area for width, area in ((256 * 4, 9), (512 * 4, 27), (256 * 4, 1))) + 5 * 512
    assert counts["resnet18", "upper"] == stage + 512 * 3 + 3


def test_copies_share_what_is_frozen_and_nothing_depends_on_training_mode(root: Path):
    model = new_model(family("efficientnet_lite0", "upper"), DIGITS, seed=0)
    duplicate = copy.deepcopy(model)
    for (name, one), other in zip(model.named_parameters(), duplicate.parameters(), strict=True):
        assert (one.data_ptr() == other.data_ptr()) == (not one.requires_grad), name
    images = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        expected = model.eval()(images)
        assert torch.equal(model.train()(images), expected)
        torch.testing.assert_close(model(images[2:3]), expected[2:3], rtol=1e-5, atol=1e-5)


def test_the_seed_fixes_the_classifier_and_nothing_else():
    one, same, other = (new_model(family("resnet18", "upper"), DIGITS, seed) for seed in (1, 1, 2))
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight) and not one.classifier.bias.any()
    assert torch.equal(one.above[0][0].first.weight, other.above[0][0].first.weight)


@pytest.mark.parametrize(
    "wrong, words",
    [({"trained": "top"}, "--trained is one of head, upper, all, not 'top'"), ({"image_size": 100}, "--image_size is a mul")],
)
def test_wrong_choices_are_refused(wrong: dict, words: str):
    with pytest.raises(UserError, match=words):
        LayerTuning(**wrong)


def test_a_task_of_texts_is_refused():
    with pytest.raises(UserError, match=f"task {CLASSES.name} has no images, which this model classifies"):
        new_model(family("resnet18", "head"), CLASSES, seed=0)


def train(root: Path, **changed: object) -> str:
    for part, count in (("train", 2), ("test", 50)):
        write_subset(DIGITS, part, count, draw_seed=0, force=False)
    return run_here("run_image_finetuning.py", **FEW | {"num_seeds": 1} | changed)


def test_a_study_knows_what_its_members_were_made_with(root: Path):
    assert "trained 1 seeds" in train(root, trained="upper") and "trained 0 seeds" in train(root, trained="upper")
    study = open_study(Experiment("efficientnet_lite0", "digits3", 2), "cpu")
    assert study.family.choices == LayerTuning("random", "upper", 32) and study.plan.epochs == 8
    member = load_member(study, 0, 8)
    assert member.info["origin"]["trained"] == "upper" and member.info["origin"]["base_sha256"]
    assert study.inputs(study.train).inputs.shape == (6, 192, 1, 1)
    with pytest.raises(UserError, match="was fine-tuned with image_size 32, but image_size is now 64; .*--force"):
        train(root, trained="upper", image_size=64)
    assert "trained 1 seeds" in train(root, trained="head", force=True)
    assert open_study(study.experiment, "cpu").plan.epochs == 20


@pytest.mark.parametrize("trained", ["head", "upper"])
def test_inner_products_of_gradients_are_those_of_float64_autograd(root: Path, trained: str):
    train(root, trained=trained)
    study = open_study(Experiment("efficientnet_lite0", "digits3", 2), "cpu")
    (member,) = load_members(study, 0, study.plan.kept_epochs[-1:])
    one, two = (study.inputs(split) for split in (study.train, study.test[:4]))
    found = gradient_kernel(member.model, (one.inputs, one.labels), (two.inputs, two.labels)).cross
    model = copy.deepcopy(member.model).double()
    parameters = list(trained_parameters(model).values())

    def rows(split) -> torch.Tensor:
        losses = cross_entropy_loss(model(split.inputs.double()), split.labels)
        gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients])

    expected = rows(one) @ rows(two).T
    torch.testing.assert_close(found.double().reshape(expected.shape), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


@pytest.mark.parametrize("trained", ["head", "upper"])
def test_members_are_scored_by_the_methods(root: Path, trained: str):
    train(root, trained=trained)
    chosen = {"model": "efficientnet_lite0", "task": "digits3", "num_per_class": 2, "num_seeds": 1}
    methods = {name: {} for name in ("grad_dot", "trak", "ekfac", "if", "loo", "repsim")}
    epochs = {"head": 5, "upper": 3}[trained]
    assert f"wrote {6 * epochs} score files" in run_here("run_tda.py", **chosen, methods=methods)


def test_scripts_refuse_in_one_sentence(root: Path):
    done = run_script("run_image_finetuning.py", "--trained", "tail", root=root)
    assert_refused(done, "--trained is one of head, upper, all")
    done = run_script("run_image_finetuning.py", "--model", "vit", root=root)
    assert_refused(done, "model vit is fine-tuned in another way; train it with run_vit_finetuning.py")


def test_tiny_building_blocks():
    maps = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(AverageOverPlaces()(maps), maps.mean(dim=(2, 3)))
    assert convolution(4, 8, 3, groups=2).weight.shape == (8, 2, 3, 3)


@pytest.mark.parametrize("trained", ["head", "upper"])
def test_models_are_trained_in_stacks_as_one_by_one(root: Path, trained: str):
    """On a GPU leave-one-out and ensembles train many models at once."""
    train(root, trained=trained)
    study = open_study(Experiment("efficientnet_lite0", "digits3", 2), "cpu")
    model, split = study.new_model(), study.inputs(study.train)
    assert can_be_stacked(model, split.inputs[:1])
    plan = replace(study.plan, epochs=2, batch_size=4)
    runs = [Run(read_state(study.new_model(seed)), plan.batches(seed, 6), [4], seed=seed) for seed in (1, 2)]
    stacked, single = (
        dict(trainer(model, plan, study.task.objective, runs, split, split, True)) for trainer in (train_stacked, train_many)
    )
    for number in range(2):
        ours, reference = stacked[number][0].evaluation, single[number][0].evaluation
        torch.testing.assert_close(ours.losses, reference.losses, rtol=1e-3, atol=1e-4)
