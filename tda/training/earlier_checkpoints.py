"""Checkpoints of earlier epochs beside a member's own, for methods that follow the training."""

from collections.abc import Sequence

from tda.models.training_plan import parse_epochs
from tda.system.errors import UserError
from tda.training.members import Member, load_member
from tda.training.study import Study


def epochs_before(study: Study, named: str, before: int) -> list[int]:
    """The named epochs before another, by default those that the training plan keeps; raises UserError if there are none."""
    epochs = [epoch for epoch in parse_epochs(named) or study.plan.early_epochs if epoch < before]
    if not epochs:
        raise UserError(
            f"no checkpoint of {study.experiment.name} before epoch {before} is named; train with --early_epochs, such as "
            f"1,2,5, and give the same epochs to the scoring script"
        )
    return epochs


def check_early_checkpoints(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    """Raise UserError unless the early checkpoints that settings["early_epochs"] names are all there."""
    for epoch in epochs_before(study, settings["early_epochs"], study.plan.kept_epochs[0]):
        for seed_id in seed_ids:
            load_member(study, seed_id, epoch)


def checkpoint_of(member: Member, epoch: int) -> Member:
    """The same seed's checkpoint of an epoch; raises UserError as load_member does."""
    return member if epoch == member.epoch else load_member(member.study, member.seed_id, epoch)
