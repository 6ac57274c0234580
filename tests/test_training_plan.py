"""Epochs, steps and batches."""

import torch

from tda.training_plan import TrainingPlan


def test_hyperparameters_of_the_study():
    expected = {"epochs": 15, "learning_rate": 1e-3, "weight_decay": 5e-3, "batch_size": 32, "num_kept_epochs": 5}
    expected |= {"linear_decay": False, "random_crop": False, "mixed_precision": False}
    assert TrainingPlan(15).as_dict() == expected


def test_last_epochs_are_kept():
    assert TrainingPlan(15).kept_epochs == [11, 12, 13, 14, 15]
    assert TrainingPlan(3).kept_epochs == [1, 2, 3]


def test_every_epoch_sees_every_example_once_in_its_own_order():
    plan = TrainingPlan(epochs=3)
    batches = plan.batches(seed=4, num_train=70)
    assert plan.steps_per_epoch(70) == 3 and [len(batch) for batch in batches] == [32, 32, 6] * 3
    epochs = [torch.cat(batches[start : start + 3]) for start in (0, 3, 6)]
    assert all(sorted(epoch.tolist()) == list(range(70)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert plan.steps_per_epoch(64) == 2 and plan.steps_per_epoch(1) == 1
