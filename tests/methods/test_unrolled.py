"""Derivatives through the training against finite differences of retrained losses, and one way against the other."""

from dataclasses import replace

import pytest
import torch
from conftest import Ensemble
from tiny_model import score
from torch import Tensor, nn

from tda.data.splits import Split
from tda.gradients.objectives import Classification
from tda.methods import unrolled as module
from tda.methods.registry import load_method
from tda.methods.unrolled_modes import Unrolling
from tda.models.model_state import read_state
from tda.models.seeded_dropout import SeededDropout
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.runs import Run
from tda.training.taken_steps import Training

EVERY_FAMILY = True
# Small: Adam divides by roots of what hardly ever moved, so that losses are strongly curved in weights.
CHANGE = 1e-7
PLENTY = 2**30


def retrained(training: Training, test: Split, weights: list[Tensor], quantity: str = "losses") -> Tensor:
    """Each test example's quantity at each snapshot, trained with each of the weights: (weights, snapshots, n_test)."""
    runs = [replace(training.run, weights=each) for each in weights]
    found = dict(train_many(training.model, training.plan, training.objective, runs, training.train, evaluate_on=test))
    return torch.stack([torch.stack([getattr(each.evaluation, quantity) for each in found[i]]) for i in range(len(runs))])


def differences(training: Training, test: Split, at: float = 1.0, quantity: str = "losses", change: float = CHANGE) -> Tensor:
    """Central differences (snapshots, n_train, n_test) of the quantity in each training example's weight."""
    count = len(training.train)
    plain, changes = torch.full((count,), at, dtype=torch.float64), change * torch.eye(count, dtype=torch.float64)
    above, below = (retrained(training, test, list(plain + sign * changes), quantity) for sign in (1, -1))
    return ((above - below) / (2 * change)).transpose(0, 1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert expected.abs().max() > 1e-6
    return float((found - expected).abs().max() / expected.abs().max())


def training_of(member: Member, train: Split, weights: Tensor | None = None, epochs: tuple[int, ...] = (4, 5, 6)) -> Training:
    run = seed_run(member.study, member.seed, weights, epochs)
    return Training(member.study.new_model(member.seed), member.plan, member.objective, run, train)


def test_scores_are_minus_the_differences_of_retrained_losses(tiny):
    train, test, members = tiny
    found = torch.stack(score("unrolled", members, train, test, mode="forward"))
    assert relative_error(-found, differences(training_of(members[0], train), test)) < 1e-5


def test_margins_and_weights_below_one(tiny):
    train, test, members = tiny
    found = torch.stack(score("unrolled", members, train, test, quantity="margin", at_weight=0.5))
    expected = differences(training_of(members[0], train), test, at=0.5, quantity="margins")
    assert relative_error(found, expected) < 1e-5


def test_backwards_is_forwards(tiny):
    train, test, members = tiny
    forwards, backwards = (torch.stack(score("unrolled", members, train, test, mode=mode)) for mode in ("forward", "backward"))
    assert relative_error(backwards, forwards) < 1e-10


def test_the_ensembles_own_checkpoints_are_met_to_the_bit(ensemble: Ensemble):
    for mode in ("forward", "backward"):
        settings = load_method("unrolled").settings | {"mode": mode}
        members = ensemble.members(14, 15)
        reports = [each.report for each in load_method("unrolled").score(members, ensemble.train, ensemble.test, settings)]
        assert [report["mode"] for report in reports] == [mode, mode]
        assert [report["distance_to_checkpoint"] for report in reports] == [0, 0]


def test_single_precision_does_on_real_digits(ensemble: Ensemble):
    members = ensemble.members(15)
    (found,) = score("unrolled", members, ensemble.train, ensemble.test)
    training = training_of(members[0], ensemble.train, epochs=(15,))
    (expected,) = differences(training, ensemble.test, change=2e-4)
    both = torch.stack([-found.flatten(), expected.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.8


@pytest.mark.cnn_alone
def test_a_part_is_kept_until_all_are_done(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    members, splits = ensemble.members(14, 15), (ensemble.train, ensemble.test)
    expected = score("unrolled", members, *splits, mode="forward")
    taken, forward = [], module._forward

    def failing(unrolling: Unrolling, members: list[Member], part: Tensor) -> dict[str, Tensor]:
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(part.tolist())
        return forward(unrolling, members, part)

    monkeypatch.setattr(module, "_LARGEST_PART", 1)
    monkeypatch.setattr(module, "_forward", failing)
    with pytest.raises(KeyboardInterrupt):
        score("unrolled", members, *splits, mode="forward")
    folder = ensemble.study.experiment.seed_folder(0) / "unrolled_parts"
    assert len(list(folder.glob("*.safetensors"))) == 2
    monkeypatch.setattr(module, "_forward", forward)
    found = score("unrolled", members, *splits, mode="forward")
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-4, atol=1e-6)
    assert not folder.exists()


@pytest.mark.cnn_alone
@pytest.mark.parametrize(
    ("name", "value"), [("mode", "sideways"), ("quantity", "accuracy"), ("at_weight", 0.0), ("memory_gib", float("nan"))]
)
def test_wrong_settings_are_refused_at_once(ensemble: Ensemble, name: str, value: object):
    method = load_method("unrolled")
    with pytest.raises(UserError, match=f"--unrolled.{name}"):
        method.check(ensemble.study, [0], method.settings | {name: value})


def test_the_cheaper_way_is_chosen():
    assert module._mode("auto", 30, 900, [11, 12, 13, 14, 15]) == "forward"
    assert module._mode("auto", 5000, 10, [100]) == "backward"
    assert module._mode("backward", 30, 900, [15]) == "backward"


# Networks and plans of every kind, on numbers without a meaning.


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network in float64 and the shape of its inputs."""
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.MaxPool2d(2))
    normalised = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.GELU())
    networks = {
        "convolutional": (nn.Sequential(convolution, nn.Flatten(), nn.Linear(36, 3)), (1, 8, 8)),
        "perceptron": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (6,)),
        "dropout": (nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), SeededDropout(0.3), nn.GELU(), nn.Linear(8, 3)), (6,)),
        "batch norm": (nn.Sequential(normalised, nn.Flatten(), nn.Linear(108, 3)), (1, 8, 8)),
    }
    torch.manual_seed(3)
    model, shape = networks[name]
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()
    return model.double(), shape


PLANS = {
    "Adam": {"learning_rate": 0.01},
    "Adam, epsilon inside": {"learning_rate": 0.01, "adam_epsilon_inside": 1e-4},
    "Adam, decaying, clipped": {"learning_rate": 0.01, "linear_decay": True, "gradient_clipping": 0.3, "weight_decay": 0.1},
    "SGD": {"learning_rate": 0.05, "momentum": 0.0},
    "SGD, momentum, clipped": {"learning_rate": 0.05, "momentum": 0.9, "gradient_clipping": 0.3},
    "Adam, crops": {"learning_rate": 0.01, "random_crop": True},
}


@pytest.mark.parametrize("name", ["convolutional", "perceptron", "dropout", "batch norm"])
@pytest.mark.parametrize("options", PLANS)
def test_every_network_and_every_plan(name: str, options: str):
    model, shape = network(name)
    plan = TrainingPlan(epochs=3, batch_size=4, num_kept_epochs=2, **PLANS[options])
    train, test = (Split(torch.randn(n, *shape).double(), torch.randint(3, (n,)), torch.arange(n)) for n in (10, 6))
    steps = plan.steps_per_epoch(len(train))
    for at in (1.0, 0.6):
        run = Run(
            read_state(model), plan.batches(3, len(train)), [2 * steps, 3 * steps], torch.full((10,), at).double(), seed=5
        )
        training = Training(model, plan, Classification(), run, train)
        unrolling = Unrolling.of(training, test, Classification().loss, PLENTY)
        forwards = torch.stack([found for _, found in unrolling.forwards(range(len(train)))])
        assert relative_error(forwards, differences(training, test, at)) < 1e-5
        backwards = torch.stack([unrolling.backwards(snapshot, test).T for snapshot in run.snapshots])
        assert relative_error(backwards, forwards) < 1e-10


def test_states_that_do_not_fit_are_taken_again_from_a_few():
    model, shape = network("perceptron")
    plan = TrainingPlan(epochs=4, batch_size=3)
    train, test = (Split(torch.randn(n, *shape).double(), torch.randint(3, (n,)), torch.arange(n)) for n in (9, 4))
    run = Run(read_state(model), plan.batches(0, len(train)), [12], seed=1)
    training = Training(model, plan, Classification(), run, train)
    state = 3 * 8 * sum(parameter.numel() for parameter in model.parameters())
    expected = Unrolling.of(training, test, Classification().loss, PLENTY).backwards(12, test)
    tight = Unrolling.of(training, test, Classification().loss, 8 * state)
    assert torch.equal(tight.backwards(12, test), expected)
    with pytest.raises(UserError, match=r"GiB of states; raise --unrolled.memory_gib"):
        replace(tight, memory=6 * state).backwards(12, test)
