"""What a model says of a split, against the model itself."""

import pytest
import torch
from conftest import Ensemble
from tiny_model import examples_of, losses, margins
from torch import nn

from tda.system.inputs import call
from tda.training import evaluation
from tda.training.evaluation import evaluate, logits_of_split, of_logits

EVERY_FAMILY = True


def test_losses_margins_and_predictions_are_those_of_one_example_at_a_time(tiny):
    _, test, members = tiny
    found = evaluate(members[0].model, members[0].objective, test)
    torch.testing.assert_close(found.losses, losses(members[0].model, test), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.margins, margins(members[0].model, test), rtol=1e-8, atol=1e-9)
    for prediction, (inputs, label) in zip(found.predictions, examples_of(test), strict=True):
        logits = call(members[0].model, inputs)[0]
        expected = logits.argmax() if label.dim() == 0 else nn.functional.pad(logits[:-1].argmax(1), (1, 0), value=-1)
        assert prediction.tolist() == expected.masked_fill(label < 0, -1).tolist()


def test_result_does_not_depend_on_the_batch_size(tiny, monkeypatch: pytest.MonkeyPatch):
    _, test, members = tiny
    model = members[0].model
    whole, logits = evaluate(model, members[0].objective, test), logits_of_split(model, test)
    for size in (1, 5, 12):
        monkeypatch.setattr(evaluation, "EVALUATION_BATCH", size)
        counts = []
        hook = model.register_forward_hook(lambda module, arguments, output, counts=counts: counts.append(1))
        found = evaluate(model, members[0].objective, test)
        hook.remove()
        assert len(counts) == -(-12 // (size if test.labels.dim() == 1 else max(1, size // 4)))
        torch.testing.assert_close(found.losses, whole.losses, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.margins, whole.margins, rtol=1e-10, atol=1e-12)
        assert torch.equal(found.predictions, whole.predictions)
        torch.testing.assert_close(logits_of_split(model, test), logits, rtol=1e-10, atol=1e-12)
        for function in (members[0].objective.surprise, members[0].objective.margin):
            expected = function(logits, test.labels)
            torch.testing.assert_close(of_logits(model, test, function), expected, rtol=1e-10, atol=1e-12)


def test_float32_evaluation_does_not_depend_on_the_batch_size(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    (member,) = ensemble.members(15)
    whole = evaluate(member.model, member.objective, ensemble.test)
    torch.testing.assert_close(whole.losses, losses(member.model, ensemble.test), rtol=1e-4, atol=1e-6)
    for size in (1, 7, 64):
        monkeypatch.setattr(evaluation, "EVALUATION_BATCH", size)
        found = evaluate(member.model, member.objective, ensemble.test)
        torch.testing.assert_close(found.losses, whole.losses, rtol=1e-4, atol=1e-6)
        assert torch.equal(found.predictions, whole.predictions)


@pytest.mark.families("cnn")
def test_evaluation_switches_dropout_off(ensemble: Ensemble):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(784, 10)).train()
    objective = ensemble.study.task.objective
    first, second = evaluate(model, objective, ensemble.test), evaluate(model, objective, ensemble.test)
    assert torch.equal(first.losses, second.losses)
    expected = model[2](ensemble.test.inputs.flatten(1)).argmax(1)
    assert torch.equal(first.predictions, expected)


def test_logits_of_a_split_are_the_models_and_the_mode_stays(tiny):
    _, test, members = tiny
    for training in (True, False):
        found = logits_of_split(members[0].model.train(training), test)
        assert members[0].model.training == training and not found.requires_grad
        torch.testing.assert_close(found, call(members[0].model, test.inputs).detach(), rtol=1e-10, atol=1e-12)
