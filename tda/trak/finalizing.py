"""From rows to features and scores: whether the rows are all there, and of the same examples for every model."""

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from tda.system.errors import UserError
from tda.system.files import locked
from tda.trak import ridge
from tda.trak.arrays import read_array, write_array
from tda.trak.folder import SaveFolder, checked_name, forget_identity, read_identity, write_identity
from tda.trak.gradient_index import GradientIndex, IndexedModel
from tda.trak.refusals import UnknownExperimentError
from tda.trak.ridge import ModelParts, SolvedTargets, Targets
from tda.trak.score_computers import (
    AbstractScoreComputer,
    computes_features,
    computes_scores,
    features_of_rows,
    scores_of_models,
)
from tda.trak.store import ExampleRows, open_rows
from tda.trak.top_examples import Extremes, extremes_of_blocks

_LOGGER = logging.getLogger("tda.trak")


class Settings(Protocol):
    """What of a TRAKer features and scores depend on."""

    train_set_size: int
    proj_dim: int
    lambda_reg: float | None
    device: torch.device
    dtype: torch.dtype
    precision: torch.dtype
    score_computer: AbstractScoreComputer
    keep_features: bool
    memory_budget: int | None


@dataclass(frozen=True)
class Finalizer:
    """Makes features and scores of the rows in a folder."""

    folder: SaveFolder
    settings: Settings

    def training_rows(self, model_id: int, count: int | None = None) -> ExampleRows:
        """A model's training examples; count: None for as many as there are. Raises UserError while they are in shards."""
        folder = self.folder.model(model_id)
        if count is None and not (folder / "marks.npy").exists() and self.folder.shards(model_id):
            raise UserError(f"the training examples of model {model_id} are in shards; call merge_shards() first")
        return self._rows(folder, "training examples", count, with_out_to_loss=True)

    def shard_rows(self, model_id: int, start: int, stop: int) -> ExampleRows:
        """A model's training examples from start to before stop, in a folder of their own."""
        folder = self.folder.shard(model_id, start, stop)
        return self._rows(folder, "training examples", stop - start, with_out_to_loss=True, offset=start)

    def target_rows(self, model_id: int, exp_name: str, count: int | None = None) -> ExampleRows:
        """A model's targets of an experiment."""
        return self._rows(self.folder.experiment(model_id, exp_name), "targets", count, with_out_to_loss=False)

    def finalize_features(self, model_ids: list[int] | None, del_grads: bool) -> None:
        """Write the features of the models' rows, unless they are there; del_grads: delete the rows' gradients afterwards.

        Where no features are kept, the factor with which targets are solved takes their place. Raises UserError for missing
        rows, and for del_grads where scores are made of the gradients themselves.
        """
        if del_grads and not self.settings.keep_features:
            raise UserError("del_grads would delete what scores are made of with keep_features=False; leave one of them out")
        for model_id in self.folder.chosen_models(model_ids):
            rows, path = self.training_rows(model_id), self._features(model_id)
            rows.require_complete()
            rows.report_lost()
            with locked(path):
                if read_identity(path) != rows.identity():
                    rows.require_gradients()
                    self._write_features(path, rows)
                    _LOGGER.info("the features of model %s are in %s", model_id, path)
            if del_grads:
                (self.folder.model(model_id) / "gradients.npy").unlink(missing_ok=True)

    def require_features(self, model_id: int) -> ExampleRows:
        """The model's training examples; raises UserError unless its features are of them as they are now."""
        rows = self.training_rows(model_id)
        known = read_identity(self._features(model_id))
        if known is None:
            raise UserError(
                f"model {model_id} has no features for lambda_reg={self.settings.lambda_reg}; featurize all training examples "
                "and call finalize_features() before scoring"
            )
        if known != rows.identity() or not rows.finished.all():
            raise UserError(
                f"the training examples of model {model_id} are not those that its features were made of; featurize them all "
                "and call finalize_features() before scoring"
            )
        return rows

    def finalize_scores(self, exp_name: str, model_ids: list[int] | None, allow_skip: bool) -> np.memmap:
        """Write and return the scores; see TRAKer.finalize_scores."""
        training, targets = self._matched(exp_name, model_ids, allow_skip)
        whole, made_of = self.folder.scores(exp_name), {}
        for model_id, rows in targets.items():
            made_of[str(model_id)] = self._made_of(training[model_id], rows)
            path = self.folder.scores(exp_name, model_id)
            self._write_scores(path, [self._parts(model_id, training, targets)], made_of[str(model_id)])
        self._write_scores(whole, [self._parts(model_id, training, targets) for model_id in targets], made_of)
        return read_array(whole)

    def top_examples(self, exp_name: str, k: int, model_ids: list[int] | None) -> Extremes:
        """See TRAKer.top_examples."""
        training, targets = self._matched(exp_name, model_ids, allow_skip=False)
        require_own_algebra(self.settings.score_computer)
        parts, settings = [self._parts(model_id, training, targets) for model_id in targets], self.settings
        blocks = ridge.scores(parts, self._solved, settings.device, settings.memory_budget)
        # In the precision in which finalize_scores writes them, so that equal scores are equal here.
        stored = ((places, values.astype(self._solved)) for places, values in blocks)
        return extremes_of_blocks(stored, min(k, len(parts[0].rows)), len(parts[0].targets))

    def index(self, model_ids: list[int] | None) -> GradientIndex:
        """See TRAKer.index."""
        require_own_algebra(self.settings.score_computer)
        training = {model_id: self.require_features(model_id) for model_id in self.folder.chosen_models(model_ids)}
        _require_same_training_examples(training)
        models = []
        for model_id, rows in training.items():
            solved, identity = read_array(self._features(model_id)), f"{rows.identity()} {self.settings.lambda_reg}"
            if self.settings.keep_features:
                models.append(IndexedModel(model_id, solved, rows.out_to_loss, None, identity))
            else:
                rows.require_gradients()
                models.append(IndexedModel(model_id, rows.gradients, rows.out_to_loss, solved, identity))
        return GradientIndex(models, self.settings.device, self.settings.memory_budget)

    def _matched(
        self, exp_name: str, model_ids: list[int] | None, allow_skip: bool
    ) -> tuple[dict[int, ExampleRows], dict[int, ExampleRows]]:
        """Each model's training examples and targets, all there and of the same examples."""
        chosen = self.folder.chosen_models(model_ids)
        training = {model_id: self.require_features(model_id) for model_id in chosen}
        targets = self._targets(exp_name, chosen, allow_skip)
        training = {model_id: training[model_id] for model_id in targets}
        _require_same_targets(targets, exp_name)
        _require_same_training_examples(training)
        for model_id, rows in targets.items():
            _require_same_task(training[model_id], rows, model_id)
        return training, targets

    def scores_of_model(self, exp_name: str, model_id: int) -> np.memmap:
        """See TRAKer.scores_of_model."""
        path = self.folder.scores(exp_name, model_id)
        known = read_identity(path)
        if known is None:
            raise UserError(f"{path} is not there: model {model_id} has no scores of {exp_name!r}; call finalize_scores first")
        if known != self._made_of(self.training_rows(model_id), self.target_rows(model_id, exp_name)):
            raise UserError(f"{path} holds scores of other examples, task or lambda_reg than now; call finalize_scores again")
        return read_array(path)

    def _rows(self, folder: Path, noun: str, count: int | None, with_out_to_loss: bool, offset: int = 0) -> ExampleRows:
        stored = np.dtype(str(self.settings.dtype).removeprefix("torch."))
        return open_rows(folder, noun, count, self.settings.proj_dim, stored, with_out_to_loss, offset)

    def _features(self, model_id: int) -> Path:
        return self.folder.features(model_id, self.settings.lambda_reg, self.settings.keep_features)

    @property
    def _solved(self) -> np.dtype:
        # What is solved for may be far smaller than what float16 can hold.
        return np.dtype(np.float64 if self.settings.precision == torch.float64 else np.float32)

    def _write_features(self, path: Path, rows: ExampleRows) -> None:
        settings, identity = self.settings, rows.identity()
        forget_identity(path)
        chosen = settings.lambda_reg, settings.device, settings.memory_budget
        if settings.keep_features:
            blocks = features_of_rows(settings.score_computer, rows.gradients, *chosen)
            write_array(path, rows.gradients.shape, self._solved, blocks)
        else:
            found = ridge.factor(rows.gradients, *chosen)
            write_array(path, found.shape, found.dtype, [(slice(None), found)])
        write_identity(path, identity)

    def _write_scores(self, path: Path, models: list[ModelParts], made_of: object) -> None:
        forget_identity(path)
        settings = self.settings
        blocks = scores_of_models(settings.score_computer, models, self._solved, settings.device, settings.memory_budget)
        write_array(path, (settings.train_set_size, len(models[0].targets)), self._solved, blocks)
        write_identity(path, made_of)

    def _targets(self, exp_name: str, model_ids: list[int], allow_skip: bool) -> dict[int, ExampleRows]:
        found = {}
        if exp_name not in self.folder.experiments():
            checked_name(exp_name)
            raise UnknownExperimentError(f"experiment {exp_name} holds no targets in {self.folder.path}; score them first")
        for model_id in model_ids:
            try:
                rows = self.target_rows(model_id, exp_name)
                rows.require_complete()
            except UserError as error:
                if not allow_skip:
                    raise
                _LOGGER.warning("model %s is left out: %s", model_id, error)
                continue
            found[model_id] = rows
        if len({rows.count for rows in found.values()}) != 1:
            raise UserError(f"no models in {self.folder.path} scored the same number of targets of {exp_name!r}; score them")
        return found

    def _parts(self, model_id: int, training: dict[int, ExampleRows], targets: dict[int, ExampleRows]) -> ModelParts:
        of_training, gradients = training[model_id], targets[model_id].gradients
        solved = read_array(self._features(model_id))
        if self.settings.keep_features:
            return ModelParts(solved, of_training.out_to_loss, Targets(gradients))
        of_training.require_gradients()
        return ModelParts(of_training.gradients, of_training.out_to_loss, SolvedTargets(gradients, solved))

    def _made_of(self, training: ExampleRows, targets: ExampleRows) -> dict[str, object]:
        return {"training": training.identity(), "targets": targets.identity(), "lambda_reg": self.settings.lambda_reg}


def require_own_algebra(computer: AbstractScoreComputer) -> None:
    """Raise UserError where a program's own score computer would be passed over."""
    if not (computes_features(computer) and computes_scores(computer)):
        what = "keep_features=False, top_examples and index"
        raise UserError(f"a score_computer of one's own needs whole features; leave out {what}")


def _require_same_targets(rows: dict[int, ExampleRows], exp_name: str) -> None:
    for (first, left), (second, right) in itertools.pairwise(rows.items()):
        if not np.array_equal(left.identities, right.identities):
            raise UserError(
                f"models {first} and {second} were given different targets under exp_name {exp_name!r}, or in another order; "
                "score the same ones for every model"
            )


def _require_same_training_examples(rows: dict[int, ExampleRows]) -> None:
    """Labels in another order are other examples; other content of the same labels may be augmentation."""
    for (first, left), (second, right) in itertools.pairwise(rows.items()):
        if not np.array_equal(left.identities[:, -1], right.identities[:, -1]):
            raise UserError(
                f"models {first} and {second} were featurized with different training examples, or in another order; featurize "
                "the same ones for every model, without shuffling"
            )
        if not np.array_equal(left.identities, right.identities):
            _LOGGER.warning(
                "the training examples of models %s and %s differ, though not in their labels; unless the loader augments, "
                "featurize the same ones",
                first,
                second,
            )


def _require_same_task(training: ExampleRows, targets: ExampleRows, model_id: int) -> None:
    if training.origin.get("task") != targets.origin.get("task"):
        raise UserError(
            f"the training examples of model {model_id} were featurized with another task, or other settings of it, than its "
            "targets were scored with; featurize again"
        )
    if training.origin != targets.origin:
        _LOGGER.warning("the training examples and targets of model %s were compared with other simulated batches", model_id)
