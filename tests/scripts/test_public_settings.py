"""The field's public settings: sizes of the models and how they are trained."""

import pytest
import torch

from tda.data.tasks import task_named
from tda.gradients.gradient_plan import plan_gradients
from tda.models.families import family_named, new_model


@pytest.mark.parametrize(
    ("name", "task", "size", "epochs"),
    [("lr", "mnist", 7_850, 20), ("mlp", "mnist", 109_386, 50), ("resnet9", "cifar2", 4_812_930, 50)],
)
def test_models_have_the_published_sizes_and_plans(name: str, task: str, size: int, epochs: int):
    family, entry = family_named(name), task_named(task)
    model = new_model(family, entry, seed=0).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == size
    images = torch.rand(2, entry.kind.channels, entry.kind.size, entry.kind.size)
    assert model(images).shape == (2, len(entry.classes))
    plan = family.plan(entry)
    assert (plan.epochs, plan.learning_rate, plan.momentum, plan.batch_size) == (epochs, 0.01, 0.9, 64)
    assert plan.kept_epochs == [epochs] and max(plan.early_epochs) < epochs


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_every_parameter_is_accounted_for_without_differentiating_the_whole_model(name: str):
    model = new_model(family_named(name), task_named("mnist"), seed=0)
    assert plan_gradients(model, torch.rand(2, 1, 28, 28)).whole_model == []
