"""The class that users of the package `trak` know, on this project's gradients, projections and files.

tau(z) = mean over models of phi(z)^T (Phi^T Phi + lambda)^-1 Phi^T, times the mean over models of Q, for projected gradients
phi of the task's output f (Park et al., ICML 2023, section 3, without soft-thresholding). Positive = helpful: with this
training example, f of the target is higher, and where f is a margin its loss lower.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tda.gradients.projections import Projection
from tda.gradients.selected_parameters import selected_shapes
from tda.gradients.single_precision import without_autocast
from tda.system.devices import pick_device
from tda.system.errors import UserError, in_one_line
from tda.system.files import sha256
from tda.trak.abstract_output import AbstractModelOutput
from tda.trak.arguments import Positions, one_each, parameter_names, shard_of, usable_model, whole_ids, whole_number
from tda.trak.batches import Batch, batch_of, count_of, on_device
from tda.trak.example_gradients import explained_asserts
from tda.trak.finalizing import Finalizer, require_own_algebra
from tda.trak.folder import SaveFolder, checked_name
from tda.trak.gradient_computers import AbstractGradientComputer, gradient_computer_of, gradients_of
from tda.trak.gradient_index import GradientIndex
from tda.trak.identities import example_identities, model_identity, task_identity, weights_identity
from tda.trak.modelout_functions import task_output
from tda.trak.projectors import AbstractProjector, projection_for, projector_of, row_factor
from tda.trak.refusals import AssertedError
from tda.trak.regression import require_not_negative
from tda.trak.ridge import require_room
from tda.trak.savers import MmapSaver, require_saver
from tda.trak.score_computers import AbstractScoreComputer, score_computer_of
from tda.trak.shards import Shard, merge
from tda.trak.store import ExampleRows
from tda.trak.top_examples import Extremes
from tda.trak.utils import get_num_params


class TRAKer:
    """Scores of training examples for targets, over any number of checkpoints of a model.

    For each checkpoint load_checkpoint and featurize every batch of training examples; then finalize_features; then for each
    checkpoint start_scoring_checkpoint and score every batch of targets; then finalize_scores. The same program started again
    goes on where it was killed; rows of other examples, or of another task, are computed again.
    """

    def __init__(
        self,
        model: nn.Module,
        task: AbstractModelOutput | type[AbstractModelOutput] | str,
        train_set_size: int,
        save_dir: str | Path = "./trak_results",
        load_from_save_dir: bool = True,
        device: str | torch.device = "auto",
        gradient_computer: type[AbstractGradientComputer] | None = None,
        projector: AbstractProjector | Projection | None = None,
        saver: type[MmapSaver] | None = None,
        score_computer: type[AbstractScoreComputer] | None = None,
        proj_dim: int | None = 2048,
        logging_level: int = logging.INFO,
        use_half_precision: bool = False,
        proj_max_batch_size: int = 32,
        projector_seed: int = 0,
        grad_wrt: Iterable[str] | None = None,
        lambda_reg: float | None = None,
        keep_features: bool = True,
        memory_budget: int | None = None,
    ) -> None:
        """Prepare the model, in evaluation mode, and the folder.

        task: a name of modelout_functions.TASK_TO_MODELOUT, or an AbstractModelOutput; train_set_size: number of training
        examples; device: "auto" is cuda where there is one; projector: a Projection, or one of projectors.py or of one's own,
        to use instead of the sparse one of proj_dim and projector_seed; gradient_computer, score_computer: subclasses of
        one's own, if any; use_half_precision: whether projected gradients are kept in float16, computed as they are in the
        model's precision; grad_wrt: names of parameters, by default all that require gradients; lambda_reg: lambda, by
        default the mean squared norm of the model's projected training gradients; keep_features: whether finalize_features
        writes features (train_set_size, proj_dim), or scores are made of the gradients and a factor (proj_dim, proj_dim);
        memory_budget: bytes that finalizing may hold at once, by default three matrices (proj_dim, proj_dim) and what 4,096
        rows take, or 768 MiB if that is less.

        load_from_save_dir and proj_max_batch_size have no effect: processes may share a folder, and nothing here has such a
        batch. saver must be None. Raises UserError for bad arguments, or a save_dir that was begun with others.
        """
        require_saver(saver)
        require_not_negative(lambda_reg, "lambda_reg")
        self.train_set_size = whole_number(train_set_size, "train_set_size", least=1)
        self.logger = logging.getLogger("tda.trak")
        self.logger.setLevel(logging_level)
        self.device = pick_device(str(device))
        self.model = usable_model(model, self.device)
        self.task = task_output(task)
        self.grad_wrt = parameter_names(grad_wrt)
        self.lambda_reg, self.proj_seed = lambda_reg, projector_seed
        self.num_params = get_num_params(self.model)
        shapes = selected_shapes(self.model, self.grad_wrt)
        self.num_params_for_grad = sum(shape.numel() for shape in shapes.values())
        self.projector, self.proj_dim = projector_of(projector, proj_dim, projector_seed, self.num_params_for_grad, self.device)
        is_double = next(self.model.parameters()).dtype == torch.float64
        self.precision = torch.float64 if is_double else torch.float32
        self.dtype = torch.float16 if use_half_precision else self.precision
        self.score_computer = score_computer_of(score_computer, self.precision, self.device, logging_level, lambda_reg)
        self.keep_features, self.memory_budget = keep_features, memory_budget
        if not keep_features:
            require_own_algebra(self.score_computer)
        if memory_budget is not None:
            require_room(self.proj_dim, whole_number(memory_budget, "memory_budget", least=1))
        self.save_dir = Path(save_dir).resolve()
        self._computer = gradient_computer
        self._differentiate(list(shapes))
        self._task_identity = task_identity(self.task)
        self._rows: ExampleRows | None = None
        self._shard: Shard | None = None
        self._folder = SaveFolder(Path(save_dir))
        settings = self._settings()
        self._folder.keep_settings(settings)
        self._finalizer = Finalizer(self._folder, self)
        self.saver = MmapSaver(save_dir, settings, lambda_reg=lambda_reg)

    def load_checkpoint(
        self,
        checkpoint: dict[str, Tensor],
        model_id: int,
        _allow_featurizing_already_registered: bool = True,
        shard: tuple[int, int] | None = None,
    ) -> None:
        """Load a state dict and open its training examples' rows, of which those that are there are kept.

        shard: this program featurizes only the examples from the first number to before the second, in a folder that no other
        writes to; merge_shards joins all. inds are still counted from the first of all examples, and batches in order begin
        with the shard's first. _allow_featurizing_already_registered has no effect: going on with a model_id is always
        allowed. Raises UserError if the checkpoint does not fit the model, or model_id belongs to another checkpoint.
        """
        start, stop = (0, self.train_set_size) if shard is None else shard_of(shard, self.train_set_size)
        self._load(checkpoint, whole_number(model_id, "model_id"))
        if shard is None:
            self._open(self._finalizer.training_rows(self._model_id, self.train_set_size))
        else:
            self._open(self._finalizer.shard_rows(self._model_id, start, stop), start)
            described = {"settings": self._settings(), "parameters": sha256("\n".join(self._parameters).encode())}
            described["checkpoint"] = self._folder.checkpoint(self._model_id)
            self._shard = Shard(self._rows, start, described)
        self.saver.current_experiment_name = None

    def featurize(self, batch: Iterable[Tensor], inds: Iterable[int] | None = None, num_samples: int | None = None) -> None:
        """Compute the projected gradients and Q of a batch of training examples, unless they are on disk.

        batch: tensors in the task's order, or a dict; inds: the examples' positions in the training set; or num_samples: the
        batch's size, for batches in order. Raises UserError if no checkpoint is loaded, the batch does not fit the announced
        number of examples, or its labels do not fit the model.
        """
        if self._rows is None or self._rows.out_to_loss is None:
            raise AssertedError(
                "Load a checkpoint using traker.load_checkpoint before featurizing: call load_checkpoint(checkpoint, model_id)"
            )
        self._add(batch, inds, num_samples)

    def merge_shards(self, model_ids: Iterable[int] | None = None, delete_shards: bool = False) -> None:
        """Join the shards of the models, by default all in save_dir, to the rows that finalize_features takes.

        delete_shards: once they are joined; both need the disk's space until then. Raises UserError, one sentence, if a row is
        in no shard or in two, or a shard is unfinished, damaged, or of another checkpoint, task, projection or other settings.
        """
        for model_id in self._folder.chosen_models(whole_ids(model_ids)):
            expected = {"settings": self._settings(), "checkpoint": self._folder.checkpoint(model_id)}
            shards = self._folder.shards(model_id)
            merge(shards, self._folder.model(model_id), self.train_set_size, expected, delete_shards)

    def finalize_features(self, model_ids: Iterable[int] | None = None, del_grads: bool = False) -> None:
        """Compute Phi (Phi^T Phi + lambda)^-1 of the models, by default all in save_dir; del_grads: delete Phi afterwards.

        Raises UserError if a model's training examples are not all featurized.
        """
        with self._undisturbed():
            self._finalizer.finalize_features(whole_ids(model_ids), del_grads)

    def start_scoring_checkpoint(self, exp_name: str, checkpoint: dict[str, Tensor], model_id: int, num_targets: int) -> None:
        """Load a state dict and open the rows of an experiment's targets, of which those that are there are kept.

        Raises UserError if the checkpoint is not the one that model_id was featurized with, or the experiment was begun with
        another number of targets.
        """
        model_id, num_targets = whole_number(model_id, "model_id"), whole_number(num_targets, "num_targets", least=1)
        checked_name(exp_name)
        self._folder.chosen_models([model_id])
        self._load(checkpoint, model_id)
        self._open(self._finalizer.target_rows(model_id, exp_name, num_targets))
        self.saver.current_experiment_name = exp_name

    def score(self, batch: Iterable[Tensor], inds: Iterable[int] | None = None, num_samples: int | None = None) -> None:
        """Compute the projected gradients of a batch of targets, unless they are on disk.

        inds: the targets' positions in the experiment; or num_samples: the batch's size, for batches in order. Raises
        UserError before finalize_features and start_scoring_checkpoint, or if the batch does not fit.
        """
        if self._rows is None or self._rows.out_to_loss is not None:
            raise AssertedError("no checkpoint is loaded to score with; call start_scoring_checkpoint(...) first")
        if not self._has_begun:
            self._finalizer.require_features(self._model_id)
        self._add(batch, inds, num_samples)

    def finalize_scores(self, exp_name: str, model_ids: Iterable[int] | None = None, allow_skip: bool = False) -> np.memmap:
        """Scores (train_set_size, num_targets), positive = helpful: the mean over models of the product, times the mean of Q.

        model_ids: by default all in save_dir; allow_skip: leave a model out whose targets are not complete. Each model's own
        scores, with its own Q, are kept too: scores_of_model reads them. Raises UserError if something is missing, or the
        models' rows are of different examples.
        """
        with self._undisturbed():
            self.scores = self._finalizer.finalize_scores(exp_name, whole_ids(model_ids), allow_skip)
        return self.scores

    def top_examples(self, exp_name: str, k: int = 10, model_ids: Iterable[int] | None = None) -> Extremes:
        """Each target's k most helpful and k most harmful training examples, with the scores of finalize_scores.

        Nothing is written, and no more than k examples a target and a block of scores are held. Raises UserError as
        finalize_scores does.
        """
        with self._undisturbed():
            return self._finalizer.top_examples(exp_name, whole_number(k, "k", least=1), whole_ids(model_ids))

    def project(self, batch: Iterable[Tensor]) -> Tensor:
        """Projected gradients (n, proj_dim) of new examples by the checkpoint that was loaded last; nothing is written.

        Raises UserError if no checkpoint is loaded, or the batch does not fit.
        """
        if self._rows is None:
            raise AssertedError("no checkpoint is loaded to project with; call load_checkpoint(checkpoint, model_id) first")
        with self._undisturbed():
            return self._gradients.projected(on_device(batch_of(batch), self.device), self._projection).detach()

    def index(self, model_ids: Iterable[int] | None = None) -> GradientIndex:
        """The exact index of the models' training examples, by default of all in save_dir, for new examples' gradients.

        Raises UserError before finalize_features.
        """
        return self._finalizer.index(whole_ids(model_ids))

    def scores_of_model(self, exp_name: str, model_id: int) -> np.memmap:
        """One model's scores (train_set_size, num_targets), as finalize_scores left them.

        Raises UserError if it has not, or the rows behind them are others by now.
        """
        return self._finalizer.scores_of_model(exp_name, whole_number(model_id, "model_id"))

    @property
    def finished(self) -> np.ndarray:
        """Which examples of what is loaded, a checkpoint's, a shard's or an experiment's, have a row that counts (n,) bool."""
        if self._rows is None:
            raise AssertedError("no checkpoint is loaded; call load_checkpoint(...) or start_scoring_checkpoint(...) first")
        return self._rows.finished

    @property
    def normalize_factor(self) -> float:
        """By how much what the projector's `project` gives has to be divided to be a row."""
        return row_factor(self.projector)

    def has_shards(self, model_id: int) -> bool:
        """Whether a model has shards, merged or not, that were not deleted."""
        return bool(self._folder.shards(whole_number(model_id, "model_id")))

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Compute as always, whatever mode a program is in."""
        with torch.inference_mode(False), without_autocast(self.device):
            yield

    def _settings(self) -> dict[str, object]:
        kind = getattr(self.projector, "proj_type", "own")
        return {
            "task": type(self.task).__name__,
            "train_set_size": self.train_set_size,
            "proj_dim": self.proj_dim,
            "projection": f"{type(self.projector).__name__} {getattr(kind, 'value', kind)}",
            "projector_seed": str(getattr(self.projector, "seed", None)),
            "stored_as": str(self.dtype).removeprefix("torch."),
            "model": model_identity(self.model),
        }

    def _load(self, checkpoint: dict[str, Tensor], model_id: int) -> None:
        try:
            self.model.load_state_dict(checkpoint)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UserError(f"the checkpoint of model_id {model_id} is not one of this model: {in_one_line(error)}") from error
        self.model.eval()
        others = self._folder.keep_checkpoint(model_id, weights_identity(self.model.state_dict()))
        if others:
            self.logger.warning("model_id %s holds the same weights as %s: no more is learnt of both", model_id, others[0])
        names = list(selected_shapes(self.model, self.grad_wrt))
        self._folder.keep_parameters(names)
        if names != self._parameters:
            self._differentiate(names)
        self._gradients.take_weights(self.model)
        self._projection = projection_for(self.projector, model_id, self.proj_dim)
        self._model_id = self.ckpt_loaded = self.saver.current_model_id = model_id

    def _differentiate(self, names: list[str]) -> None:
        """Take gradients of the parameters of these names."""
        chosen = self.model, self.task, names, self.precision, self.device
        self._parameters, self.gradient_computer = names, gradient_computer_of(self._computer, *chosen)
        self._gradients = gradients_of(self.gradient_computer, names)

    def _open(self, rows: ExampleRows, start: int = 0) -> None:
        self._rows, self._has_begun, self._shard = rows, False, None
        self._positions = Positions(rows.count, rows.noun, start)

    def _begin(self) -> None:
        """Say what the rows depend on."""
        # A task of a program's own may change on the way, by what it keeps of the first batches.
        if type(self.task).__module__.startswith("tda.trak."):
            self._task_identity = task_identity(self.task)
        state = getattr(self.task, "state_identity", None)
        self._rows.begin({"task": self._task_identity, "state": state() if callable(state) else ""})
        self._has_begun = True

    def _add(self, given: Iterable[Tensor], inds: Iterable[int] | None, num_samples: int | None) -> None:
        given = batch_of(given)
        positions = self._positions.of(count_of(given), inds, num_samples)
        if not self._has_begun:
            self._begin()
        if len(positions):
            self._keep(given, positions)
        if self._shard is not None:
            self._shard.finish_if_complete()
        if inds is None:
            self._positions.advance(len(positions))

    def _keep(self, given: Batch, positions: np.ndarray) -> None:
        # A batch that is partly there is computed as a whole, so that its bytes do not depend on where a run was killed.
        identities = example_identities(given)
        if not self._rows.lacks(positions, identities):
            return
        with self._undisturbed(), explained_asserts():
            batch = on_device(given, self.device)
            gradients = self._gradients.projected(batch, self._projection)
            out_to_loss = None
            if self._rows.out_to_loss is not None:
                out_to_loss = one_each(self._gradients.out_to_loss(batch), len(positions))
            if self._shard is not None:
                self._shard.begin()
            self._rows.write(positions, identities, gradients, out_to_loss)
