"""The two ensembles of the shortcut study: what is kept apart, who is misled, and which training images did it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Ensemble

from tda.data.splits import Split
from tda.features.shortcut import Patch
from tda.features.shortcut_models import (
    Planted,
    influential_pairs,
    misread_by_most,
    predicted_as_patch,
    shortcut_study,
    trained_with_and_without,
)
from tda.system.errors import UserError
from tda.training.evaluation import logits_of_split


@pytest.fixture
def planted(ensemble: Ensemble) -> Planted:
    """A patch on all training images of class 1, and one seed of either ensemble."""
    return trained_with_and_without(ensemble.study, Patch(label=1, share=1.0), [0], num_checkpoints=2, force=False)


def test_the_ensemble_with_the_patch_lies_beside_the_plain_one(ensemble: Ensemble, planted: Planted):
    patched = shortcut_study(ensemble.study, ensemble.study.train)
    assert patched.experiment.name == f"{ensemble.study.experiment.name}_shortcut"
    assert ensemble.study.experiment.variant == "" and patched.results.path != ensemble.study.results.path
    for name, seeds in (("shortcut", planted.with_patch), ("", planted.without)):
        assert [member.epoch for member in seeds[0]] == [14, 15]
        assert all(member.study.experiment.variant == name for member in seeds[0])


def test_the_patch_is_on_its_class_and_on_the_test_images_of_all_others(ensemble: Ensemble, planted: Planted):
    study = ensemble.study
    assert planted.chosen.tolist() == (study.train.labels == 1).nonzero().flatten().tolist()
    on_train = (planted.train.inputs[:, 0, planted.region] == 1).all(dim=1)
    assert on_train[planted.chosen].all()
    others = study.test.labels != 1
    assert (planted.test.inputs[:, 0, planted.region] == 1).all() and (planted.test.labels == 1).all()
    assert torch.equal(planted.true_labels, study.test.labels[others])
    assert torch.equal(planted.test.indices, study.test.indices[others])
    outside = ~planted.region
    assert torch.equal(planted.test.inputs[:, 0, outside], study.test.inputs[others][:, 0, outside])


def test_predicted_as_patch_counts_the_last_member_of_each_seed(planted: Planted):
    found = predicted_as_patch(planted)
    for name, seeds in (("with the patch", planted.with_patch), ("without the patch", planted.without)):
        expected = logits_of_split(seeds[0][-1].model, planted.test).argmax(1) == 1
        np.testing.assert_array_equal(found[name], expected[None])


def test_misread_images_are_those_that_the_patch_alone_misleads(planted: Planted):
    count = len(planted.test)
    misread = {name: np.zeros((3, count), dtype=bool) for name in ("with the patch", "without the patch")}
    misread["with the patch"][:2, [4, 9, 20, 31]] = True
    misread["with the patch"][0, 7] = True
    misread["without the patch"][:2, 9] = True
    assert misread_by_most(misread, 10).tolist() == [4, 20, 31]
    assert misread_by_most(misread, 2).tolist() == [4, 31]
    with pytest.raises(UserError, match="misleads no test image"):
        misread_by_most(misread | {"with the patch": misread["without the patch"]}, 2)


def test_influential_pairs_have_the_largest_cosines(planted: Planted):
    shown = torch.tensor([3, 12])
    pairs = influential_pairs(planted, shown, num_train=1)
    assert pairs.test.tolist() == [3, 12]
    model = planted.with_patch[0][-1].model

    def gradient(split: Split, position: int) -> torch.Tensor:
        image, label = split.inputs[position : position + 1], split.labels[position : position + 1]
        loss = torch.nn.functional.cross_entropy(model(image), label)
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])

    for test, train in zip(pairs.test.tolist(), pairs.train.tolist(), strict=True):
        cosines = [
            torch.nn.functional.cosine_similarity(gradient(planted.train, own), gradient(planted.test, test), dim=0)
            for own in planted.chosen.tolist()
        ]
        assert train == planted.chosen[int(torch.stack(cosines).argmax())]


@pytest.mark.parametrize("ensemble", ["vit"], indirect=True)
def test_models_that_take_no_images_are_refused(ensemble: Ensemble):
    with pytest.raises(UserError, match="--model vit cannot be taught a patch"):
        trained_with_and_without(ensemble.study, Patch(), [0], 1, force=False)


def test_another_patch_needs_force(ensemble: Ensemble, planted: Planted):
    with pytest.raises(UserError, match="trained on other examples"):
        trained_with_and_without(ensemble.study, replace(Patch(label=1, share=1.0), size=6), [0], 1, force=False)
