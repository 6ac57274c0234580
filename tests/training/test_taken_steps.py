"""A training step by step is the training itself, also from the middle on."""

from collections.abc import Iterator

import pytest
import torch
from conftest import CPU, Ensemble

from tda.models.model_state import read_state, trained_parameters
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.training.ensembles import seed_run
from tda.training.taken_steps import Training

EVERY_FAMILY = True


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Members are trained with one thread each; two add a product's terms in another order, and training makes that grow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def training_of(ensemble: Ensemble) -> Training:
    study, seed = ensemble.study, ensemble.study.seed(0)
    return Training(
        on_device(study.new_model(seed), CPU), study.plan, study.task.objective, seed_run(study, seed), ensemble.train
    )


def test_the_last_step_ends_at_the_checkpoint_and_the_first_begins_at_the_start(ensemble: Ensemble):
    training = training_of(ensemble)
    steps = [step.kept() for step in training.steps()]
    assert [step.number for step in steps] == list(range(1, training.num_steps + 1))
    for name, value in training.run.start.parameters.items():
        assert torch.equal(steps[0].before[name], value)
    (member,) = ensemble.members(ensemble.study.plan.epochs)
    for name, parameter in trained_parameters(training.model).items():
        torch.testing.assert_close(parameter.detach(), member.state.parameters[name], rtol=1e-4, atol=1e-6)
    for quantity in ("exp_avg", "exp_avg_sq"):
        for name, value in steps[-1].after[quantity].items():
            torch.testing.assert_close(value, member.state.optimizer[quantity][name], rtol=1e-4, atol=1e-7)


def test_steps_from_the_middle_on_are_the_same(ensemble: Ensemble):
    training = training_of(ensemble)
    middle = training.num_steps // 2
    for step in training.steps(until=middle):
        last = step
    assert last.number == middle
    state = read_state(training.model, training.optimizer)
    again = [step.kept() for step in training.steps(state, middle)]
    whole = [step.kept() for step in training.steps()]
    for found, expected in zip(again, whole[middle:], strict=True):
        assert found.number == expected.number and found.rate == expected.rate
        for name, value in expected.before.items():
            assert torch.equal(found.before[name], value)
        assert found.size_in_bytes() == expected.size_in_bytes() > 0


@pytest.mark.families("cnn")
def test_a_parameter_out_of_reach_is_named(ensemble: Ensemble):
    training = training_of(ensemble)
    training.model.register_parameter("idle", torch.nn.Parameter(torch.zeros(3)))
    start = read_state(training.model)
    with pytest.raises(UserError, match="step 1 of the training does not reach the trained parameter idle"):
        next(training.steps(start))
