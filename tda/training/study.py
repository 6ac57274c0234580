"""A study: what every step opens once, so that nothing below it looks a name up again."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from tda.data.splits import Split, load_split, load_whole
from tda.data.tasks import Task, task_named
from tda.experiments.folders import Experiment, ResultsFolder
from tda.experiments.manifest import Record, step
from tda.experiments.seeds import load_seeds
from tda.models.families import ModelFamily, family_named, new_model
from tda.models.fine_tuning import FineTuning
from tda.models.training_plan import TrainingPlan
from tda.models.variants import family_of_variant
from tda.scores.fresh_scores import Checkpoints
from tda.system.devices import device_name, pick_device
from tda.system.errors import UserError
from tda.system.tensor_heads import read_info


@dataclass(frozen=True)
class Study:
    """One experiment with all that its name stands for.

    family: with its choices of fine-tuning; seeds: of the whole ensemble; train, test: the drawn subsets, on the CPU; device:
    where models are trained and scored. order_seed: the seed of every run's batches and of what its steps draw, whatever seed
    its start is of; None, as in every study but a crossed one: the run's own. memory_budget: bytes that a method may hold of
    kernels, curvature and projected gradients of one member, more going to disk; None for all. whole: what models learn
    from where that is more than `train`, in order of its indices; None as in most studies.
    """

    experiment: Experiment
    task: Task
    family: ModelFamily
    seeds: tuple[int, ...]
    train: Split
    test: Split
    device: torch.device
    order_seed: int | None = None
    memory_budget: int | None = None
    whole: Split | None = None

    @cached_property
    def plan(self) -> TrainingPlan:
        """How its models are trained."""
        return self.family.plan(self.task)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Fingerprints of the splits, "train" and "test", and "learned" where models learn from more than "train"."""
        whole = {} if self.whole is None else {"learned": self.whole.fingerprint}
        return {"train": self.train.fingerprint, "test": self.test.fingerprint} | whole

    @property
    def learned(self) -> Split:
        """What models learn from; `train`, of which scores have rows, is a part of it or the same."""
        return self.train if self.whole is None else self.whole

    @cached_property
    def scored(self) -> Tensor:
        """Positions (n_train,) int64 of `train` among the examples that models learn from."""
        if self.whole is None:
            return torch.arange(len(self.train))
        return torch.searchsorted(self.whole.indices, self.train.indices)

    def scored_of(self, learned: Split) -> Split:
        """The scored ones of the examples that models learn from, as the family's models take them."""
        return learned if self.whole is None else learned[self.scored]

    @property
    def results(self) -> ResultsFolder:
        """Folder of its results."""
        return self.experiment.results

    @property
    def training_command(self) -> str:
        """The command that makes its members, for messages."""
        return f"{self.family.training_script} {self.experiment.arguments}"

    def seed(self, seed_id: int) -> int:
        """The seed that an id stands for; raises UserError if it is out of range."""
        if not 0 <= seed_id < len(self.seeds):
            raise UserError(f"seed_id {seed_id} is out of range: random_seeds.pt holds seeds 0 to {len(self.seeds) - 1}")
        return self.seeds[seed_id]

    def seed_ids(self, seed_id: int | None = None, num_seeds: int | None = None) -> list[int]:
        """The one seed id asked for, or the first `num_seeds`, or all; raises UserError if there are not so many."""
        if seed_id is not None:
            self.seed(seed_id)
            return [seed_id]
        if num_seeds is not None and not 1 <= num_seeds <= len(self.seeds):
            raise UserError(f"--num_seeds {num_seeds} is out of range: random_seeds.pt holds {len(self.seeds)} seeds")
        return list(range(len(self.seeds)))[:num_seeds]

    def trained_seed_ids(self, checkpoints: Checkpoints, num_seeds: int | None, seed_id: int | None = None) -> list[int]:
        """As seed_ids, but without a choice those that have a checkpoint; raises UserError where no seed has one, too."""
        if not checkpoints.seed_ids:
            raise UserError(f"{self.experiment.name} has no checkpoints; train it first with {self.training_command}")
        chosen = seed_id is not None or num_seeds is not None
        return self.seed_ids(seed_id, num_seeds) if chosen else checkpoints.seed_ids

    def _done(self, arguments: Mapping) -> list[int]:
        """Seed ids that a step with these arguments is of: of those that are trained, all seeds where none is."""
        folders = {path.parent.name for path in self.experiment.seed_folder(0).parent.glob("*/ckpt_epoch_*.safetensors")}
        trained = sorted(int(name) for name in folders if name.isdecimal())
        everything = range(len(self.seeds))
        if arguments.get("seed_id") is not None:
            return [arguments["seed_id"]]
        return [seed_id for seed_id in trained or everything if seed_id in everything[: arguments.get("num_seeds")]]

    def last_epochs(self, num_checkpoints: int) -> list[int]:
        """The last epochs whose checkpoints are kept, ascending; raises UserError if there are not so many."""
        kept = self.plan.kept_epochs
        if not 1 <= num_checkpoints <= len(kept):
            raise UserError(f"--num_checkpoints {num_checkpoints} is out of range: {len(kept)} checkpoints a seed are kept")
        return kept[-num_checkpoints:]

    def new_model(self, seed: int = 0) -> nn.Module:
        """The untrained model on the CPU, initialised from the seed's own stream, with the company that it needs, if any."""
        model = new_model(self.family, self.task, seed)
        if self.family.company is not None:
            self.family.company(model, self.inputs(self.learned).inputs)
        return model

    def inputs(self, split: Split) -> Split:
        """A split on the study's device, its inputs as the family's models take them."""
        return replace(split, inputs=self.family.inputs(self.task, split.inputs, self.device)).to(self.device)

    @contextlib.contextmanager
    def step(
        self,
        kind: str,
        arguments: Mapping,
        hashes: dict[str, str] | None = None,
        seed_ids: Sequence[int] | None = None,
        share: str = "",
    ) -> Iterator[Record]:
        """Record a step in the manifest, as experiments.manifest.step does, by default as one of both splits and trained seeds.

        seed_ids: those that it does; a part of the ensemble is recorded as a share of the work, beside what else makes it one.
        Without them the step is of the seeds that are trained, or of the first of them by its argument num_seeds.
        """
        hashes = self.hashes if hashes is None else hashes
        seeds = [self.seeds[seed_id] for seed_id in seed_ids or self._done(arguments)]
        if seed_ids and len(seeds) < len(self.seeds):
            share = ", ".join(filter(None, [_named_seeds(list(seed_ids)), share]))
        with step(self.experiment, kind, dict(arguments), hashes, device_name(self.device), seeds, share) as record:
            yield record


def open_study(
    experiment: Experiment, device: str = "auto", fine_tuning: FineTuning | None = None, may_learn_more: bool = False
) -> Study:
    """Look up everything that an experiment's name stands for.

    fine_tuning: choices for new members; without it those that the experiment's first checkpoint was made with, or the family's
    default where there is none. may_learn_more: whether the step can do with models that learn from more than is scored.
    Raises UserError for an unknown model, task or device, a variant that does not fit the model, choices of a family that is
    not fine-tuned, missing or damaged data, index files or seeds, or a step that cannot.
    """
    chosen = pick_device(device)
    family, task = family_named(experiment.model), task_named(experiment.task)
    if task.learns_all and not may_learn_more:
        raise UserError(
            f"models of task {task.name} learn from all examples, of which only the drawn ones are scored; this script takes "
            "tasks whose models learn from the drawn examples alone"
        )
    if fine_tuning is None and family.fine_tuned is not None:
        fine_tuning = _choices_of_members(experiment, family.kind_of_choices)
    if fine_tuning is not None:
        family = family.with_choices(fine_tuning)
    # After the choices, by which the plan that a variant changes may go.
    family = family_of_variant(family, task, experiment.variant)
    train = load_split(task, "train", experiment.num_per_class)
    whole = load_whole(task, "train") if task.learns_all else None
    return Study(experiment, task, family, tuple(load_seeds()), train, load_split(task, "test"), chosen, whole=whole)


def _named_seeds(seed_ids: list[int]) -> str:
    if len(seed_ids) > 1 and seed_ids == list(range(len(seed_ids))):
        return f"seeds 0 to {seed_ids[-1]}"
    return f"seed{'s' * (len(seed_ids) > 1)} {' and '.join(map(str, seed_ids))}"


def _choices_of_members(experiment: Experiment, kind: type[FineTuning]) -> FineTuning | None:
    """The choices that the first checkpoint names which can be read; None where there is none."""
    for path in sorted(experiment.seed_folder(0).parent.glob("*/ckpt_epoch_*.safetensors")):
        try:
            origin = read_info(path).get("origin", {})
        except UserError:  # whoever loads this member says so
            continue
        names = [entry.name for entry in fields(kind)]
        if all(name in origin for name in names):
            return kind(**{name: origin[name] for name in names})
    return None
