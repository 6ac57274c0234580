"""SOURCE against the paper's equations with explicit matrices, and against what it approximates, in float64."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from conftest import Ensemble, for_some
from tiny_model import explicit_gauss_newton, loss_of_one, naive_gradients, score, stored
from torch import Tensor, nn

from tda.data.splits import Split
from tda.methods import source as module
from tda.methods.registry import Attribution, load_method
from tda.models.families import ModelFamily
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member

EVERY_FAMILY = True
Tiny = tuple[Split, Split, list[Member]]


def source(members: Sequence[Member], train: Split, test: Split, **settings) -> Attribution:
    """Scores of the last of the members; the others are earlier checkpoints."""
    method = load_method("source")
    early = ",".join(str(member.epoch) for member in members[:-1])
    (found,) = method.score([members[-1]], train, test, method.settings | {"early_epochs": early} | settings)
    return found


def with_plan(members: Sequence[Member], **changed) -> list[Member]:
    """The members, as if another plan had trained them; nothing is trained again."""
    family = members[0].study.family
    plan = replace(members[0].plan, **changed)
    study = replace(members[0].study, family=replace(family, plan=lambda task: plan))
    return stored([replace(member, study=study, cache={}) for member in members])


def dense_source(groups: list[list[Member]], times: list[float], train: Split, test: Split, damping: float) -> Tensor:
    """The paper's product over segments and its filters, by matrix exponentials and inverses of explicit matrices."""
    total, last = 0.0, groups[-1][-1]
    size = naive_gradients(last.model, test[:1]).shape[1]
    changes = torch.zeros(len(train), size, dtype=torch.float64)
    for group, time in zip(groups, times, strict=True):
        gauss_newton = sum(explicit_gauss_newton(member.model, train) for member in group) / len(group)
        gradients = sum(naive_gradients(member.model, train) for member in group) / len(group)
        matrix = diagonal_of(group) @ (gauss_newton + damping * torch.eye(size, dtype=torch.float64))
        carried = torch.linalg.matrix_exp(-time * matrix)
        # (1 - exp(-t M)) M^-1 without an inverse: the corner of the exponential of a matrix twice as large.
        corner = torch.zeros(2 * size, 2 * size, dtype=torch.float64)
        corner[:size, :size], corner[:size, size:] = -time * matrix, time * torch.eye(size, dtype=torch.float64)
        response = torch.linalg.matrix_exp(corner)[:size, size:]
        changes = changes @ carried.T + gradients @ diagonal_of(group).T @ response.T / len(train)
    total = changes @ naive_gradients(last.model, test).T
    return total


def diagonal_of(group: list[Member]) -> Tensor:
    """The mean over checkpoints of Adam's 1 / (sqrt(v / (1 - 0.999^step)) + 1e-8), as a matrix; 1 for SGD."""
    total = 0.0
    for member in group:
        moments, steps = member.state.optimizer["exp_avg_sq"], member.state.optimizer["step"]
        names = [name for name, parameter in member.model.named_parameters() if parameter.requires_grad]
        flat = torch.cat([(moments[name] / (1 - 0.999 ** steps[name].item())).flatten() for name in names])
        total = total + (torch.ones_like(flat) if member.plan.momentum is not None else 1 / (flat.sqrt() + 1e-8))
    return torch.diag(total / len(group))


@pytest.mark.parametrize("num_test", [for_some(4), 12], ids=["by test", "by train"])
@pytest.mark.parametrize("form", ["by_kernel", for_some("by_entries")])
def test_matches_the_paper_for_adam(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, form: str, num_test: int):
    """Two segments of 3 steps an epoch, the checkpoints of epochs 4 and 5 in the first, which ends midway between 5 and 6."""
    train, test, members = tiny
    test, members = test[:num_test], stored(members)
    monkeypatch.setattr(module, "by_kernel", getattr(module, form))
    monkeypatch.setattr(module, "by_entries", getattr(module, form))
    found = source(members, train, test, num_segments=2, curvature="gauss_newton")
    rates = [members[0].plan.rate(step, 18) for step in range(1, 19)]
    times = [sum(rates[:16]), sum(rates[16:])]
    assert [(one["epochs"], one["steps"]) for one in found.report["segments"]] == [([4, 5], 16), ([6], 2)]
    expected = dense_source([members[:2], members[2:]], times, train, test, 0.0)
    torch.testing.assert_close(found.scores, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert found.report["curvature"] == "Gauss-Newton, exact" and found.report["parameters_left_out"] == []


@pytest.mark.parametrize("damping", [None, for_some(0.3)])
def test_matches_the_paper_for_sgd_with_momentum(tiny: Tiny, damping: float | None):
    train, test, members = tiny
    members = with_plan(members, momentum=0.9, learning_rate=0.05, weight_decay=0.02, linear_decay=True)
    found = source(members, train, test, num_segments=3, damping=damping)
    rates = [0.05 * (1 - step / 18) / 0.1 for step in range(18)]
    # Ends of equal length would leave epochs 1 and 2 without a checkpoint.
    times = [sum(rates[:14]), sum(rates[14:16]), sum(rates[16:])]
    assert [one["rates"] for one in found.report["segments"]] == pytest.approx(times)
    added = 0.02 if damping is None else damping
    expected = dense_source([[member] for member in members], times, train, test, added)
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))


def alike(members: Sequence[Member], **changed) -> list[Member]:
    """The members with the state of the last one, of which the mean over checkpoints is each."""
    return with_plan([replace(member, state=members[-1].state) for member in members], **changed)


def test_one_segment_without_end_is_the_damped_influence(tiny: Tiny):
    train, test, members = tiny
    found = source(alike(members, momentum=0.0, learning_rate=1e7, weight_decay=0.07), train, test, num_segments=1)
    assert found.report["segments"][0]["epochs"] == [4, 5, 6]
    (expected,) = score("if", members[-1:], train, test, damping=0.07)
    scale = 1e-7 * float(expected.abs().max())
    torch.testing.assert_close(found.scores * len(train), expected.double(), rtol=1e-5, atol=scale)


@pytest.mark.parametrize("num_test", [for_some(4), 12], ids=["by test", "by train"])
def test_one_segment_without_end_is_ekfac_by_its_factors(tiny: Tiny, num_test: int):
    train, test, members = tiny
    test, endless = test[:num_test], alike(members, momentum=0.0, learning_rate=1e7, weight_decay=0.07)
    found = source(endless, train, test, num_segments=1, curvature="ekfac")
    (expected,) = load_method("ekfac").score(members[-1:], train, test, {"matrix": "fisher", "damping": 0.07})
    scale = 1e-7 * float(expected.scores.abs().max())
    torch.testing.assert_close(found.scores * len(train), expected.scores, rtol=1e-6, atol=scale)
    assert found.report["parameters_left_out"] == expected.report["parameters_left_out"]
    assert found.report["curvature"] == "EK-FAC"


def test_short_training_is_the_preconditioned_gradient_product(tiny: Tiny):
    """Before curvature matters every step adds rate times P g / n, whatever the segments."""
    train, test, members = tiny
    members = with_plan(members, learning_rate=1e-12, linear_decay=False)
    expected = 0.0
    for member, steps in zip(members, (14, 2, 2), strict=True):
        products = naive_gradients(member.model, train) @ diagonal_of([member]) @ naive_gradients(members[-1].model, test).T
        expected = expected + steps * 1e-12 * products / len(train)
    scale = float(expected.abs().max())
    torch.testing.assert_close(source(members, train, test).scores / scale, expected / scale, rtol=1e-6, atol=1e-6)


@pytest.mark.families("cnn", "vit", "text")
def test_lots_change_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    train, test, members = tiny
    members = stored(members)
    for curvature in ("gauss_newton", "ekfac"):
        for chosen in (test, test[:4]):
            expected = source(members, train, chosen, curvature=curvature).scores
            with monkeypatch.context() as patch:
                patch.setattr(module, "_VECTOR_BYTES", 8 * 3 * 155)
                found = source(members, train, chosen, curvature=curvature).scores
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))


def outer_products(moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """Second moments of the same shapes that are, layer by layer, outer products of one part an output and one an input."""
    found = {}
    for name, moment in moments.items():
        by_output = torch.linspace(0.1, 1.3, len(moment), dtype=torch.float64)
        by_input = torch.linspace(0.2, 2.0, moment[0].numel(), dtype=torch.float64).view(moment[0].shape)
        found[name] = by_output.view(-1, *[1] * (moment.dim() - 1)) * (by_input if moment.dim() > 1 else 0.7)
    return found


def test_ekfac_is_exact_where_second_moments_are_outer_products(tiny: Tiny):
    """At so small a rate that the curvature is none, but the preconditioner is all."""
    train, test, members = tiny
    state, train_size = members[-1].state, len(train)
    optimizer = state.optimizer | {"exp_avg_sq": outer_products(state.optimizer["exp_avg_sq"])}
    optimizer["step"] = {name: torch.tensor(1e6) for name in optimizer["step"]}
    members = [replace(member, state=replace(state, optimizer=optimizer)) for member in members]
    members = with_plan(members, learning_rate=1e-10, linear_decay=False)
    found = source(members, train, test, num_segments=1, curvature="ekfac")
    covered = [name for name in state.parameters if name not in found.report["parameters_left_out"]]
    left, right = (covered_gradients(members[-1].model, split, covered) for split in (train, test))
    diagonal = torch.cat([(optimizer["exp_avg_sq"][name].sqrt() + 1e-8).flatten() for name in covered])
    expected = 18 * left / diagonal @ right.T / train_size
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.scores / scale * 1e10, expected / scale, rtol=1e-5, atol=1e-6)


def covered_gradients(model: nn.Module, split: Split, names: list[str]) -> Tensor:
    """Loss gradients (n, p) of these parameters, in the order of the names."""
    parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
    pieces = naive_gradients(model, split).split([part.numel() for part in parameters.values()], dim=1)
    by_name = dict(zip(parameters, pieces, strict=True))
    return torch.cat([by_name[name] for name in names], dim=1)


@pytest.mark.parametrize("curvature", ["gauss_newton", "ekfac"])
def test_both_directions_agree_on_a_real_member(ensemble: Ensemble, curvature: str):
    members = ensemble.members(14, 15)
    train, test = ensemble.train, ensemble.test
    by_train = source(members, train, test, curvature=curvature, num_segments=2).scores
    by_test = source(members, train, test[:4], curvature=curvature, num_segments=2).scores
    assert by_train.dtype == torch.float32 and by_train.shape == (6, 21)
    torch.testing.assert_close(by_test, by_train[:, :4], rtol=1e-2, atol=1e-3 * float(by_train.abs().max()))


def logistic(task) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, 3)).double()


def many_small_steps(task) -> TrainingPlan:
    """Whole batches at a small rate."""
    return TrainingPlan(epochs=60, learning_rate=0.05, weight_decay=0.01, batch_size=9, num_kept_epochs=60, momentum=0.0)


@pytest.mark.families("cnn")
def test_is_the_derivative_of_a_logistic_regression_s_training(tiny: Tiny):
    """With a checkpoint each epoch nothing is left to approximate but a step by the exponential, 1 - x for exp(-x)."""
    train, test, members = tiny
    family = ModelFamily("tiny", "tiny model", logistic, many_small_steps, "no script")
    study = replace(members[0].study, family=family)

    def losses_of(weights: Tensor | None) -> tuple[Tensor, list[Member]]:
        run = seed_run(study, members[0].seed, weights)
        ((_, snapshots),) = train_many(study.new_model(), study.plan, study.task.objective, [run], train, keep_states=True)
        made = [Member(study, 0, epoch, found.state, {}) for epoch, found in enumerate(snapshots, start=1)]
        with torch.no_grad():
            logits = call(made[-1].model, test.inputs)
        return torch.stack([loss_of_one(logits[i : i + 1], test.labels[i]) for i in range(len(test))]), made

    expected = []
    for example in range(len(train)):
        either = []
        for sign in (-1, 1):
            weights = torch.ones(len(train), dtype=torch.float64)
            weights[example] += sign * 1e-4
            either.append(losses_of(weights)[0])
        expected.append((either[0] - either[1]) / 2e-4)
    expected = torch.stack(expected)
    made = stored(losses_of(None)[1])
    found = source(made, train, test, num_segments=60).scores
    assert float((found - expected).norm() / expected.norm()) < 0.02
    coarse = source(made, train, test, num_segments=3).scores
    assert float((coarse - expected).norm() / expected.norm()) < 0.1


@pytest.mark.families("cnn")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"curvature": "hessian"}, "unknown curvature hessian; known ones are auto, ekfac, gauss_newton"),
        ({"damping": -0.1}, "damping of source must be 0 or more, not -0.1"),
        ({"num_segments": 4}, "4 segments need at least as many checkpoints"),
        ({"num_segments": 0}, "0 segments need at least as many checkpoints, and at least 1"),
        ({"early_epochs": ""}, "no checkpoint of tiny_digits3_3pc before epoch 6 is named; train with --early_epochs"),
        ({"early_epochs": "3"}, "ckpt_epoch_3.safetensors is missing; train the ensemble first"),
    ],
)
def test_settings_are_checked(tiny: Tiny, settings: dict, words: str):
    train, test, members = tiny
    with pytest.raises(UserError, match=words):
        source(stored(members), train, test, **settings)


@pytest.mark.families("cnn")
def test_what_is_missing_is_known_before_anything_is_scored(tiny: Tiny):
    study, method = stored(tiny[2])[0].study, load_method("source")
    with pytest.raises(UserError, match="no checkpoint of tiny_digits3_3pc before epoch 4 is named"):
        method.check(study, [0], method.settings)
    with pytest.raises(UserError, match="ckpt_epoch_2.safetensors is missing"):
        method.check(study, [0], method.settings | {"early_epochs": "2"})
