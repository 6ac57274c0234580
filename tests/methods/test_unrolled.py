"""The method unrolled: signs, quantities, weights, both ways, what it reports, its parts and its settings."""

import pytest
import torch
from changed_weights import differences, relative_error, training_of
from conftest import Ensemble
from tiny_model import score
from torch import Tensor

from tda.methods import unrolled as module
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.training.members import Member
from tda.unrolling.both_ways import Unrolling

EVERY_FAMILY = True


def test_scores_are_minus_the_differences_of_retrained_losses(tiny):
    train, test, members = tiny
    found = torch.stack(score("unrolled", members, train, test, mode="forward"))
    assert relative_error(-found, differences(training_of(members[0], train), test)) < 1e-5


@pytest.mark.families("cnn", "vit", "text", "gpt")
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
    # Differences of float32 losses would be those of their rounding.
    train, test = (split.cast(torch.float64) for split in (ensemble.train, ensemble.test))
    training = training_of(members[0], train, epochs=(15,))
    training.model.double()
    (expected,) = differences(training, test, change=1e-6)
    both = torch.stack([-found.double().flatten(), expected.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.99


def test_linearised_steps_are_near_the_exact_ones_and_go_forwards(ensemble: Ensemble):
    members, splits = ensemble.members(14, 15), (ensemble.train, ensemble.test)
    method, linearised = load_method("unrolled"), {"curvature": "gauss_newton"}
    found = list(method.score(members, *splits, method.settings | linearised))
    assert [each.report["mode"] for each in found] == ["forward", "forward"]
    backwards = score("unrolled", members, *splits, mode="backward", **linearised)
    for one, other, exact in zip(found, backwards, score("unrolled", members, *splits), strict=True):
        # In single precision, Adam divides what is all rounding by as little.
        correlations = torch.corrcoef(torch.stack([one.scores.flatten(), other.flatten(), exact.flatten()]))[0]
        assert correlations[1] > 0.99 and correlations[2] > 0.5


@pytest.mark.families("cnn")
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


@pytest.mark.families("cnn")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mode", "sideways"), ("quantity", "accuracy"), ("curvature", "fisher")),
        *(("at_weight", 0.0), ("memory_gib", float("nan"))),
    ],
)
def test_wrong_settings_are_refused_at_once(ensemble: Ensemble, name: str, value: object):
    method = load_method("unrolled")
    with pytest.raises(UserError, match=f"--unrolled.{name}"):
        method.check(ensemble.study, [0], method.settings | {name: value})


def test_the_cheaper_way_is_chosen():
    assert module._mode("auto", 30, 900, [11, 12, 13, 14, 15]) == "forward"
    assert module._mode("auto", 5000, 10, [100]) == "backward"
    assert module._mode("backward", 30, 900, [15]) == "backward"


def test_members_have_their_own_scores_in_whatever_order_they_are_given(ensemble: Ensemble):
    for mode in ("forward", "backward"):
        ordered, turned = (
            score("unrolled", members, ensemble.train, ensemble.test, mode=mode)
            for members in (ensemble.members(14, 15), ensemble.members(14, 15)[::-1])
        )
        assert all(torch.equal(left, right) for left, right in zip(ordered, turned[::-1], strict=True))
