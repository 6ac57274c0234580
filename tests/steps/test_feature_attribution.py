"""Feature attribution as a user runs it: an ensemble, class folders, Pascal VOC, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Ensemble, assert_refused, run_script, settings_of
from PIL import Image
from torch import nn
from torchvision.models import get_model

from tda.features.influence_maps import Pairs, Smoothing
from tda.features.photographs import VOC_CLASSES
from tda.features.seed_maps import MapSettings, maps_of_seeds
from tda.features.subjects import ensemble_subject, gradient_scores, last_members, predictions
from tda.steps.feature_attribution import main, photographs_of
from tda.system.arguments import parse
from tda.system.errors import UserError

NETWORK = "squeezenet1_1"
SIZE = 40


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE + seed, SIZE + 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def save_networks(folder: Path, num_classes: int) -> str:
    """Parameters of two untrained networks; their paths with commas."""
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        paths.append(folder / f"network_{seed}.pt")
        torch.save(get_model(NETWORK, weights=None, num_classes=num_classes).state_dict(), paths[-1])
    return ",".join(map(str, paths))


@pytest.fixture
def photographs(root: Path) -> list:
    """Arguments of a run on three images of two classes, for training and test each."""
    for split, name, seed in [
        (split, name, seed) for split in ("train", "test") for name in ("cat", "dog") for seed in (1, 2, 3)
    ]:
        save_image(root / "pets" / split / name / f"{seed}.png", seed + 10 * (name == "dog") + 20 * (split == "test"))
    arguments = {"source": "folders", "folder": root / "pets", "network": NETWORK, "checkpoints": save_networks(root, 2)}
    arguments |= {"image_size": SIZE, "name": "pets", "tests": "spread", "num_test": 2, "num_train": 2, "smoothing_copies": 0}
    return [word for name, value in arguments.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize("ensemble", ["cnn", "vit"], indirect=True)
def test_an_ensembles_maps_are_written_and_right(ensemble: Ensemble):
    arguments = ["--model", ensemble.study.experiment.model, "--num_per_class", 2, "--tests", "spread"]
    arguments += ["--num_test", 3, "--num_train", 2, "--num_checkpoints", 2]
    arguments += ["--smoothing_copies", 2, "--device", "cpu"]
    done = run_script("run_feature_attribution.py", *arguments, root=ensemble.root)
    assert done.returncode == 0, done.stderr
    folder = ensemble.study.experiment.results.path / "feature_attribution"
    subject = ensemble_subject(last_members(ensemble.study, 2, ensemble.study.seed_ids()))
    assert subject.train.inputs.shape == (6, 1, 28, 28)
    with np.load(folder / "maps_grad_cos.npz") as found:
        train = [subject.train.indices.tolist().index(index) for index in found["train_idx"]]
        test = [subject.test.indices.tolist().index(index) for index in found["test_idx"]]
        pairs, settings = Pairs(torch.tensor(train), torch.tensor(test)), MapSettings(smoothing=Smoothing(2, 0.1))
        expected = torch.stack(list(maps_of_seeds(subject.seeds, subject.train, subject.test, pairs, settings))).double()
        np.testing.assert_allclose(found["mean"], expected.mean(0), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found["std"], expected.std(0), rtol=1e-3, atol=1e-6)
    table = pd.read_csv(folder / "pairs_grad_cos.csv")
    assert len(table) == 6 and table.test_idx.tolist() == found_indices(subject.test.indices, pairs.test)
    scores = gradient_scores(subject, cosine=True)
    np.testing.assert_allclose(table.score_mean, scores.mean(0)[train, test], rtol=1e-4)
    best = scores.mean(0)[:, test[0]].max()
    np.testing.assert_allclose(table.score_mean[0], best, rtol=1e-4)
    assert len(list(folder.glob("maps_grad_cos_test_*.png"))) == 3 == len(list(folder.glob("maps_grad_cos_test_*.pdf")))


def found_indices(indices: torch.Tensor, positions: torch.Tensor) -> list[int]:
    return indices[positions].tolist()


def test_class_folders_and_a_torchvision_network(photographs: list, root: Path):
    done = run_script("run_feature_attribution.py", *photographs, "--no-absolute", root=root)
    assert done.returncode == 0, done.stderr
    folder = root / "results" / "pets" / "feature_attribution"
    table = pd.read_csv(folder / "pairs_grad_cos.csv")
    assert len(table) == 4 and set(table.train_class) <= {"cat", "dog"}
    with np.load(folder / "maps_grad_cos.npz") as found:
        assert found["mean"].shape == (4, 3, SIZE, SIZE) and found["mean"].any()
    assert len(list(folder.glob("*.png"))) == 2


def test_one_file_of_parameters_has_maps_without_a_spread(photographs: list, root: Path):
    photographs[photographs.index("--checkpoints") + 1] = str(root / "network_0.pt")
    done = run_script("run_feature_attribution.py", *photographs, root=root)
    assert done.returncode == 0, done.stderr
    folder = root / "results" / "pets" / "feature_attribution"
    table = pd.read_csv(folder / "pairs_grad_cos.csv")
    assert np.isfinite(table.score_mean).all() and table.score_std.isna().all() and table.reliable_mass.isna().all()
    with np.load(folder / "maps_grad_cos.npz") as found:
        assert sorted(found) == ["mean", "test_idx", "train_idx"] and found["mean"].any()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--folder", "nowhere"], ["nowhere", "for each class"]),
        (["--network", "resnet17"], ["no network 'resnet17'"]),
        (["--checkpoints", "absent.pt"], ["absent.pt is missing"]),
        (["--checkpoints", ""], ["--checkpoints"]),
        (["--network", "resnet18"], ["does not hold the parameters of a resnet18 with 2 logits"]),
        (["--parameters", "head"], ["no parameter of squeezenet1_1 begins with 'head'"]),
        (["--score", "loo"], ["unknown score loo"]),
        (["--channel_reduction", "mean"], ["unknown channel reduction mean"]),
        (["--source", "web"], ["unknown source web"]),
        (["--source", "voc2012"], ["Pascal VOC 2012 is not whole", "VOCtrainval_11-May-2012.tar"]),
        (["--source", "voc2012", "--explained_class", "zebra"], ["unknown class 'zebra'", "aeroplane"]),
    ],
)
def test_unusable_arguments_are_refused(changed: list, words: list, photographs: list, root: Path):
    settings = parse(settings_of("run_feature_attribution.py"), "", list(map(str, [*photographs, *changed])))
    with pytest.raises(UserError) as refused:
        main(settings)
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_refusal_is_one_sentence(root: Path):
    assert_refused(run_script("run_feature_attribution.py", "--source", "voc2012", root=root), "Pascal VOC 2012", "unpack it")


def test_one_class_of_a_multi_label_network_is_explained(root: Path):
    voc = root / "data" / "VOCdevkit" / "VOC2012"
    for image_set, first in (("train", 0), ("val", 4)):
        for number in range(first, first + 4):
            save_image(voc / "JPEGImages" / f"{number}.jpg", number)
            objects = "".join(f"<object><name>{name}</name></object>" for name in (["dog", "cat"] if number % 2 else ["cat"]))
            (voc / "Annotations").mkdir(exist_ok=True)
            (voc / "Annotations" / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
        (voc / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (voc / "ImageSets" / "Main" / f"{image_set}.txt").write_text("".join(f"{k}\n" for k in range(first, first + 4)))
    settings = settings_of(
        "run_feature_attribution.py",
        source="voc2012",
        explained_class="dog",
        network=NETWORK,
        checkpoints=tuple(save_networks(root, 20).split(",")),
        image_size=SIZE,
    )
    subject = photographs_of(settings)
    assert subject.train.labels.tolist() == [1, 1, 0, 0] and subject.train.indices.tolist() == [1, 3, 0, 2]
    assert subject.explained_class == VOC_CLASSES.index("dog")
    assert [subject.label_name(label) for label in (0, 1)] == ["no dog", "dog"]
    assert subject.logit_classes(subject.test).tolist() == [11] * 4
    model = subject.seeds[0][0]()
    logits = model(subject.test.inputs)[:, 11]
    assert predictions(subject)[0].tolist() == (logits > 0).long().tolist()
    losses = nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 1, 0, 0]), reduction="none")
    torch.testing.assert_close(subject.quantity(model(subject.test.inputs), subject.test.labels), losses)


def test_an_unknown_rule_is_refused_before_members_are_read(root: Path):
    with pytest.raises(UserError, match="unknown rule best for test examples; give misclassified, reliable"):
        main(settings_of("run_feature_attribution.py", num_per_class=2, tests="best"))
