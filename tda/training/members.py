"""Ensemble members: one checkpoint of one seed, with everything that a method needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.models.model_state import ModelState, trained_parameters, write_state
from tda.models.training_plan import TrainingPlan
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.checkpoints import made_of, read_checkpoint
from tda.training.study import Study


@dataclass(frozen=True)
class Member:
    """One checkpoint of one seed.

    info: what the checkpoint says of itself (train_loss, test_accuracy, sha256 of its content, versions, ...).
    cache: intermediate results that several methods share, for as long as the member lives.
    """

    study: Study
    seed_id: int
    epoch: int
    state: ModelState
    info: dict
    cache: dict = field(default_factory=dict)

    @property
    def plan(self) -> TrainingPlan:
        """How the member was trained."""
        return self.study.plan

    @property
    def seed(self) -> int:
        """The random seed itself."""
        return self.study.seed(self.seed_id)

    @property
    def objective(self) -> Objective:
        """What it was trained on."""
        return self.study.task.objective

    @property
    def device(self) -> torch.device:
        """Where the member computes."""
        return self.study.device

    @cached_property
    def model(self) -> nn.Module:
        """The model with the checkpoint's parameters, in evaluation mode, on the member's device."""
        model = self.study.new_model(self.seed)
        write_state(self.state, model)
        return on_device(model, self.device).eval()

    def remember(self, purpose: str, splits: Sequence[Split], compute: Callable[[], Any]) -> Any:
        """What `compute` returns for these splits, computed once per member."""
        key = (purpose, *(split.fingerprint for split in splits))
        if key not in self.cache:
            self.cache[key] = compute()
        return self.cache[key]


def roots_of_example(member: Member, split: Split) -> int:
    """How many roots the curvature of one of the split's examples has: of a classifier one less than it has logits."""
    with torch.no_grad():
        logits = call(member.model, split[:1].inputs)
    return member.objective.curvature_roots(logits, split[:1].labels).shape[1]


def load_member(study: Study, seed_id: int, epoch: int) -> Member:
    """Read one checkpoint and check that it is what the study would make; the member's study has its choices of fine-tuning.

    Raises UserError if the file is missing, damaged, of another experiment, seed, epoch, data, base model or network.
    """
    path, again = study.experiment.checkpoint_file(seed_id, epoch), study.training_command
    state, info = read_checkpoint(path, again)
    for key, value in made_of(study, seed_id, epoch).items():
        if info.get(key) != value:
            raise UserError(f"{path} is foreign: its {key} is {info.get(key)}, not {value}; run {again} --force")
    study = _with_origin(study, info["origin"], path)
    if info["data"] != study.learned.fingerprint:
        raise UserError(f"{path} was trained on other examples than the index file now names; run {again} --force")
    if info["plan"] != study.plan.as_dict():
        raise UserError(f"{path} was trained with another training plan than the code now has; run {again} --force")
    shapes = {name: parameter.shape for name, parameter in trained_parameters(study.new_model()).items()}
    if {name: tensor.shape for name, tensor in state.parameters.items()} != shapes:
        raise UserError(
            f"{path} holds another network than the {study.family.title} of {study.task.name}; delete it and run {again}"
        )
    return Member(study, seed_id, epoch, state, info)


def load_members(study: Study, seed_id: int, epochs: Sequence[int]) -> list[Member]:
    """Members of one seed at the given epochs, their models built; raises UserError as load_member does."""
    return built([load_member(study, seed_id, epoch) for epoch in epochs])


def built(members: list[Member]) -> list[Member]:
    """The members, each with its model at hand.

    Building a model borrows torch's global generator, which threads that score members must not do.
    """
    for member in members:
        _ = member.model
    return members


def _with_origin(study: Study, origin: dict, path: Path) -> Study:
    """The study with the choices of fine-tuning that a checkpoint was made with.

    Raises UserError if the study names other choices, or if the base model is no longer the one that the member knew.
    """
    if study.family.fine_tuned is not None and study.family.choices is None and origin:
        kind = study.family.kind_of_choices
        choices = kind(**{entry.name: origin.get(entry.name) for entry in fields(kind)})
        study = replace(study, family=study.family.with_choices(choices))
    expected = study.family.origin(study.task)
    made = "made" if study.family.fine_tuned is None else "fine-tuned"
    for key in sorted(expected.keys() | origin.keys()):
        if expected.get(key) != origin.get(key):
            raise UserError(
                f"{path} was {made} with {key} {origin.get(key)}, but {key} is now {expected.get(key)}; choose that again, "
                f"or replace the members with {study.training_command} --force"
            )
    return study
