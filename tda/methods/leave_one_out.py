"""Leave-one-out: retrain from scratch without each example, with the same initialisation and batch order.

The example's term is missing from the loss and nothing else changes. A model with nothing removed is trained beside
the others through the same code and gives the baseline, so that removing nothing scores exactly 0. One retraining
gives the scores of all kept checkpoints.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from tda.data.splits import Split
from tda.methods.registry import Attribution, register
from tda.system.devices import on_device
from tda.system.resumable_parts import ResumableParts
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member

# Retrainings between two intermediate files; what a killed run loses at most.
PART_SIZE = 100


@register("loo", "LOO", "Cook 1977; Nguyen, Seo and Oh 2023, section 2")
def leave_one_out(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
    """L(test, trained without the example) - L(test, trained with it), at each member's epoch, of the scored examples alone."""
    member = members[0]
    scored = member.study.scored
    seeds = (member.seed, member.study.order_seed)
    made_of = (train[scored].fingerprint, train.fingerprint, test.fingerprint, member.plan, seeds, member.info.get("origin"))
    files = ResumableParts(member.study.experiment.seed_folder(member.seed_id) / "loo_parts", repr(made_of))
    parts = torch.arange(len(scored)).split(PART_SIZE)

    def change(part: Tensor) -> dict[str, Tensor]:
        return {"changes": loss_changes(member, train, test, scored[part])}

    found = (
        [files.result(part, partial(change, part))["changes"] for part in parts]
        if len(parts) > 1
        else [change(parts[0])["changes"]]
    )
    changes, epochs = torch.cat(found, dim=1), member.plan.kept_epochs
    for chosen in members:
        yield Attribution(changes[epochs.index(chosen.epoch)], positions=scored)
    files.remove(parts)


def loss_changes(member: Member, train: Split, test: Split, removed: Sequence[int]) -> Tensor:
    """Changes of the test losses (kept epochs, len(removed), n_test) when each example in turn is removed."""
    study = member.study
    baseline = seed_run(study, member.seed)
    runs = [baseline] + [replace(baseline, weights=_without(int(example), len(train), train.device)) for example in removed]
    model = on_device(study.new_model(member.seed), train.device)
    losses = torch.empty(len(runs), len(baseline.snapshots), len(test))
    trained = train_many(model, member.plan, member.objective, runs, train, evaluate_on=test)
    for number, snapshots in tqdm(trained, total=len(runs), desc=f"retraining seed {member.seed_id}", delay=2, leave=False):
        losses[number] = torch.stack([snapshot.evaluation.losses for snapshot in snapshots])
    return (losses[1:] - losses[:1]).transpose(0, 1)


def _without(example: int, num_train: int, device: torch.device) -> Tensor:
    weights = torch.ones(num_train, device=device)
    weights[example] = 0
    return weights
