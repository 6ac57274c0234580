"""Leave-one-out against a plain retraining loop, and its intermediate files."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
import torch
from conftest import SEEDS, Ensemble
from tiny_model import losses, plain_training, score, shuffled_batches

from tda.methods import leave_one_out as module
from tda.methods.leave_one_out import loss_changes
from tda.system.random_streams import stream

EVERY_FAMILY = True


def test_scores_are_those_of_a_plain_retraining_loop(tiny):
    train, test, members = tiny
    settings = members[0].plan
    batches = shuffled_batches(stream(SEEDS[0], "batch order"), settings, len(train))

    def retrained(removed: int | None) -> torch.Tensor:
        models = plain_training(members[0].study.new_model(SEEDS[0]), settings, train, batches, removed)
        steps = [epoch * settings.steps_per_epoch(len(train)) for epoch in (4, 5, 6)]
        return torch.stack([losses(models[step - 1], test) for step in steps])

    expected = torch.stack([retrained(example) - retrained(None) for example in range(len(train))], dim=1)
    assert expected.abs().max() > 1e-3
    found = torch.stack(score("loo", members, train, test))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_order_and_choice_of_members_do_not_matter(tiny):
    train, test, members = tiny
    found = score("loo", members, train, test)
    (alone,) = score("loo", [members[2]], train, test)
    assert torch.equal(alone, found[2])
    assert not torch.equal(found[0], found[2])


def test_removing_nothing_scores_exactly_zero(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_without", lambda example, num_train, device: torch.ones(num_train, device=device))
    changes = loss_changes(ensemble.members(15)[0], ensemble.train, ensemble.test, [0, 3])
    assert changes.shape == (5, 2, 21) and (changes == 0).all()


@pytest.mark.families("cnn")
def test_baseline_is_the_stored_member(ensemble: Ensemble):
    """The retraining starts and runs as the ensemble's training did: with every example it would end at the checkpoint."""
    member = ensemble.members(15)[0]
    model = member.study.new_model(member.seed)
    batches = shuffled_batches(stream(member.seed, "batch order"), member.plan, len(ensemble.train))
    last = plain_training(model, member.plan, ensemble.train, batches)[-1]
    torch.testing.assert_close(losses(last, ensemble.test), losses(member.model, ensemble.test), rtol=2e-3, atol=1e-4)


def test_permuting_test_examples_permutes_columns(ensemble: Ensemble):
    member = ensemble.members(15)[0]
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    test = ensemble.test
    first, second = (loss_changes(member, ensemble.train, split, [1]) for split in (test, test[order]))
    torch.testing.assert_close(first[:, :, order], second, rtol=1e-5, atol=1e-7)


def part_folder(ensemble: Ensemble) -> Path:
    return ensemble.study.experiment.seed_folder(0) / "loo_parts"


def test_parts_change_nothing_and_are_removed(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    members = ensemble.members(14, 15)
    whole = score("loo", members, ensemble.train, ensemble.test)
    monkeypatch.setattr(module, "PART_SIZE", 4)
    parts = score("loo", members, ensemble.train, ensemble.test)
    assert all(torch.equal(left, right) for left, right in zip(whole, parts, strict=True))
    assert not part_folder(ensemble).exists()


def test_interrupted_run_continues_with_its_parts(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    members = ensemble.members(15)
    (whole,) = score("loo", members, ensemble.train, ensemble.test)
    monkeypatch.setattr(module, "PART_SIZE", 2)
    computed = []

    def counting(member, train, test, removed):
        computed.append(removed.tolist())
        if len(computed) == 3:
            raise KeyboardInterrupt
        return loss_changes(member, train, test, removed)

    monkeypatch.setattr(module, "loss_changes", counting)
    with pytest.raises(KeyboardInterrupt):
        score("loo", members, ensemble.train, ensemble.test)
    damaged = part_folder(ensemble) / "2_to_3.safetensors"
    os.truncate(damaged, damaged.stat().st_size - 10)
    (resumed,) = score("loo", members, ensemble.train, ensemble.test)
    assert computed == [[0, 1], [2, 3], [4, 5], [2, 3], [4, 5]]
    assert torch.equal(resumed, whole) and not part_folder(ensemble).exists()


def test_parts_of_other_work_are_not_used(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PART_SIZE", 4)
    member = ensemble.members(15)[0]
    generator = module.leave_one_out([member], ensemble.train, ensemble.test, {})
    next(generator)
    generator.close()
    assert part_folder(ensemble).exists()
    (found,) = score("loo", [member], ensemble.train, ensemble.test[:5])
    assert found.shape == (6, 5)


def test_two_runs_with_parts_at_once_do_not_disturb_each_other(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    """The one that ends first removes its parts while the other still writes some."""
    members = ensemble.members(15)
    (whole,) = score("loo", members, ensemble.train, ensemble.test)
    monkeypatch.setattr(module, "PART_SIZE", 2)
    last_part, other_is_done, found = threading.Event(), threading.Event(), []

    def halting(member, train, test, removed):
        if threading.current_thread() is slow and removed.tolist() == [4, 5]:
            last_part.set()
            other_is_done.wait(30)
        return loss_changes(member, train, test, removed)

    slow = threading.Thread(target=lambda: found.append(score("loo", members, ensemble.train, ensemble.test)[0]))
    monkeypatch.setattr(module, "loss_changes", halting)
    slow.start()
    assert last_part.wait(30)
    unfinished = part_folder(ensemble) / ".4_to_5.safetensors.abc.tmp"
    with open(unfinished, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (fast,) = score("loo", members, ensemble.train, ensemble.test)
        kept = unfinished.exists()
    other_is_done.set()
    slow.join()
    assert kept, "a part that another process was writing is gone"
    assert torch.equal(found[0], whole) and torch.equal(fast, whole)
    assert not list(ensemble.study.experiment.seed_folder(0).glob("loo_parts/*")) and not part_folder(ensemble).exists()
