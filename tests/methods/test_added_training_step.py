"""The added training step against one step of torch's plain Adam."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import Ensemble
from tiny_model import examples_of, loss_of_one, losses, score

from tda.data.splits import Split
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.members import Member

EVERY_FAMILY = True


def plain_scores(member: Member, train: Split, test: Split, state_of_checkpoint: bool) -> torch.Tensor:
    """The loss before minus the loss after one step on each training example alone."""
    rows, examples = [], examples_of(train)
    for example in range(len(train)):
        model = copy.deepcopy(member.model)
        parameters = trained_parameters(model)
        rates = {"lr": member.plan.learning_rate, "weight_decay": member.plan.weight_decay}
        optimizer = torch.optim.Adam(parameters.values(), **rates)
        if state_of_checkpoint:
            remembered = {
                position: {quantity: tensors[name].clone() for quantity, tensors in member.state.optimizer.items()}
                for position, (name, _) in enumerate(parameters.items())
            }
            optimizer.load_state_dict({"state": remembered, "param_groups": optimizer.state_dict()["param_groups"]})
        inputs, label = examples[example]
        loss_of_one(call(model, inputs), label).backward()
        optimizer.step()
        rows.append(losses(member.model, test) - losses(model, test))
    return torch.stack(rows)


@pytest.mark.parametrize("state", ["checkpoint", "fresh"])
def test_scores_are_those_of_one_plain_step(tiny, state: str):
    train, test, members = tiny
    for member, found in zip(members, score("ats", members, train, test, optimizer_state=state), strict=True):
        expected = plain_scores(member, train, test, state == "checkpoint")
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.families("cnn")
def test_step_is_that_of_a_smooth_plan(tiny):
    """From the checkpoint's moments, with epsilon inside the root and the gradient clipped, by hand."""
    train, test, members = tiny
    (member,) = members[:1]
    plan = replace(member.plan, adam_epsilon_inside=1e-4, gradient_clipping=0.5)
    study = replace(member.study, family=replace(member.study.family, plan=lambda task: plan))
    (found,) = score("ats", [replace(member, study=study)], train, test)
    inputs, label = examples_of(train)[0]
    model, remembered = copy.deepcopy(member.model), member.state.optimizer
    gradients = torch.autograd.grad(loss_of_one(call(model, inputs), label), list(trained_parameters(model).values()))
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert norm > 0.5
    for (name, parameter), gradient in zip(trained_parameters(model).items(), gradients, strict=True):
        step = float(remembered["step"][name]) + 1
        gradient = gradient * 0.5 / norm + plan.weight_decay * parameter.detach()
        mean = (0.9 * remembered["exp_avg"][name] + 0.1 * gradient) / (1 - 0.9**step)
        square = (0.999 * remembered["exp_avg_sq"][name] + 0.001 * gradient**2) / (1 - 0.999**step)
        parameter.data -= plan.learning_rate * mean / (square + 1e-4).sqrt()
    torch.testing.assert_close(found[0].double(), losses(member.model, test) - losses(model, test), rtol=1e-5, atol=1e-6)


def test_state_of_the_optimizer_matters(tiny):
    train, test, members = tiny
    (kept,), (fresh,) = (score("ats", members[:1], train, test, optimizer_state=state) for state in ("checkpoint", "fresh"))
    assert (kept - fresh).abs().max() > 1e-3
    assert members[0].plan.learning_rate == 1e-2


def test_example_helps_itself_when_adam_starts_afresh(ensemble: Ensemble):
    (found,) = score("ats", ensemble.members(11), ensemble.train, ensemble.train, optimizer_state="fresh")
    assert (found.diagonal() > 0).all()


def test_members_are_left_as_they_were(ensemble: Ensemble):
    (member,) = ensemble.members(15)
    before = copy.deepcopy(member.model.state_dict())
    state = copy.deepcopy(member.state)
    score("ats", [member], ensemble.train, ensemble.test)
    assert all(torch.equal(tensor, before[name]) for name, tensor in member.model.state_dict().items())
    for quantity, tensors in state.optimizer.items():
        assert all(torch.equal(tensor, member.state.optimizer[quantity][name]) for name, tensor in tensors.items())


def test_unknown_optimizer_state_is_refused(ensemble: Ensemble):
    with pytest.raises(UserError, match="optimizer_state new.*checkpoint.*fresh"):
        score("ats", ensemble.members(15), ensemble.train, ensemble.test, optimizer_state="new")


def test_permuting_test_examples_permutes_columns(ensemble: Ensemble):
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    (first,), (second,) = (
        score("ats", ensemble.members(15), ensemble.train, split) for split in (ensemble.test, ensemble.test[order])
    )
    torch.testing.assert_close(first[:, order], second, rtol=1e-5, atol=1e-6)
