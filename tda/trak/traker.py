"""The class that users of the package `trak` know, on this project's gradients, projections and files.

tau(z) = mean over models of phi(z)^T (Phi^T Phi + lambda)^-1 Phi^T, times the mean over models of Q, for projected gradients
phi of the task's output f (Park et al., ICML 2023, section 3, without soft-thresholding). Positive = helpful: with this
training example, f of the target is higher, and its loss lower.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tda.gradients.projections import Projection
from tda.gradients.single_precision import in_single_precision, single_precision
from tda.system.devices import pick_device
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.random_streams import stream_seed
from tda.trak.example_gradients import gradients_of
from tda.trak.folder import SaveFolder
from tda.trak.modelout_functions import AbstractModelOutput, task_output
from tda.trak.regression import require_not_negative
from tda.trak.ridge import ModelParts, features, scores
from tda.trak.store import ExampleRows, open_rows, read_array, write_array


class TRAKer:
    """Scores of training examples for targets, over any number of checkpoints of a model.

    For each checkpoint load_checkpoint and featurize every batch of training examples; then finalize_features; then for each
    checkpoint start_scoring_checkpoint and score every batch of targets; then finalize_scores. The same program started again
    goes on where it was killed.
    """

    def __init__(
        self,
        model: nn.Module,
        task: AbstractModelOutput | str,
        train_set_size: int,
        save_dir: str | Path = "./trak_results",
        load_from_save_dir: bool = True,
        device: str | torch.device = "auto",
        gradient_computer: None = None,
        projector: Projection | None = None,
        saver: None = None,
        score_computer: None = None,
        proj_dim: int | None = 2048,
        logging_level: int = logging.INFO,
        use_half_precision: bool = False,
        proj_max_batch_size: int = 32,
        projector_seed: int = 0,
        grad_wrt: Iterable[str] | None = None,
        lambda_reg: float | None = None,
    ) -> None:
        """Prepare the model, in evaluation mode, and the folder; of a model in 16 bits a copy in float32, 4 bytes a parameter.

        task: "image_classification", "text_classification", "clip", "language_modeling" or an AbstractModelOutput;
        train_set_size: number of training examples; device: "auto" is cuda where there is one; projector: a Projection to use
        instead of the sparse one of proj_dim and projector_seed; use_half_precision: whether projected gradients are kept in
        float16, computed as they are in the model's precision; grad_wrt: names of parameters, by default all that require
        gradients; lambda_reg: lambda, by default the mean squared norm of the model's projected training gradients.

        load_from_save_dir and proj_max_batch_size have no effect: processes may share a folder, and nothing here has such a
        batch. gradient_computer, saver and score_computer must be None. Raises UserError for bad arguments, or a save_dir
        that was begun with others.
        """
        parts = {"gradient_computer": gradient_computer, "saver": saver, "score_computer": score_computer}
        for name, part in parts.items():
            if part is not None:
                raise UserError(f"{name} cannot be replaced, only the task and the projector can; leave the argument out")
        if train_set_size < 1:
            raise UserError(f"train_set_size is {train_set_size}; it must be the number of training examples")
        require_not_negative(lambda_reg, "lambda_reg")
        self.logger = logging.getLogger("tda.trak")
        self.logger.setLevel(logging_level)
        self.device = pick_device(str(device))
        self.model = single_precision(model.to(self.device)).eval()
        self.task = task_output(task)
        self.train_set_size = train_set_size
        self.projector = projector or Projection(proj_dim, projector_seed)
        self.lambda_reg = lambda_reg
        self._folder = SaveFolder(Path(save_dir))
        parameters = None if grad_wrt is None else list(grad_wrt)
        self._gradients = gradients_of(self.model, self.task, parameters)
        precision = np.float64 if next(model.parameters()).dtype == torch.float64 else np.float32
        self._stored = np.dtype(np.float16 if use_half_precision else precision)
        # What is solved for may be far smaller than what float16 can hold.
        self._solved = np.dtype(precision)
        self._model_id: int | None = None
        self._rows: ExampleRows | None = None
        self._position = 0
        self._folder.keep_settings(
            {
                "task": type(self.task).__name__,
                "train_set_size": train_set_size,
                "proj_dim": self.projector.dimension,
                "projection": self.projector.kind,
                "projector_seed": self.projector.seed,
                "stored_as": str(self._stored),
                "grad_wrt": parameters,
                "model": sha256(*(f"{name} {tuple(tensor.shape)}".encode() for name, tensor in model.state_dict().items())),
            }
        )

    def load_checkpoint(
        self, checkpoint: dict[str, Tensor], model_id: int, _allow_featurizing_already_registered: bool = True
    ) -> None:
        """Load a state dict and open its training examples' rows, of which those that are finished are kept.

        _allow_featurizing_already_registered has no effect: going on with a model_id is always allowed. Raises UserError if
        the checkpoint does not fit the model, or model_id belongs to another checkpoint.
        """
        self._load(checkpoint, model_id)
        self._rows = self._training_rows(model_id, self.train_set_size)

    def featurize(self, batch: Iterable[Tensor], inds: Iterable[int] | None = None, num_samples: int | None = None) -> None:
        """Compute the projected gradients and Q of a batch of training examples, unless they are on disk.

        inds: the examples' positions in the training set; or num_samples: the batch's size, for batches in order. Raises
        UserError if no checkpoint is loaded, or the batch does not fit the announced number of examples.
        """
        if self._rows is None or self._rows.out_to_loss is None:
            raise UserError("no checkpoint is loaded to featurize with; call load_checkpoint(checkpoint, model_id) first")
        self._add(batch, inds, num_samples)

    def finalize_features(self, model_ids: Iterable[int] | None = None, del_grads: bool = False) -> None:
        """Compute Phi (Phi^T Phi + lambda)^-1 of the models, by default all in save_dir; del_grads: delete Phi afterwards.

        Raises UserError if a model's training examples are not all featurized.
        """
        for model_id in self._folder.model_ids(model_ids):
            path = self._folder.features(model_id, self.lambda_reg)
            if not path.exists():
                rows = self._training_rows(model_id, None)
                rows.require_complete()
                blocks = features(rows.gradients, self.lambda_reg, self.device)
                write_array(path, rows.gradients.shape, self._solved, blocks)
                self.logger.info("the features of model %s are in %s", model_id, path)
            if del_grads:
                (self._folder.model(model_id) / "gradients.npy").unlink(missing_ok=True)

    def start_scoring_checkpoint(self, exp_name: str, checkpoint: dict[str, Tensor], model_id: int, num_targets: int) -> None:
        """Load a state dict and open the rows of an experiment's targets, of which those that are finished are kept.

        Raises UserError if the checkpoint is not the one that model_id was featurized with, or the experiment was begun with
        another number of targets.
        """
        folder = self._folder.experiment(model_id, exp_name)
        if num_targets < 1:
            raise UserError(f"num_targets is {num_targets}; it must be the number of targets to score")
        self._folder.model_ids([model_id])
        self._load(checkpoint, model_id)
        self._rows = self._target_rows(folder, num_targets)

    def score(self, batch: Iterable[Tensor], inds: Iterable[int] | None = None, num_samples: int | None = None) -> None:
        """Compute the projected gradients of a batch of targets, unless they are on disk.

        inds: the targets' positions in the experiment; or num_samples: the batch's size, for batches in order. Raises
        UserError before finalize_features and start_scoring_checkpoint, or if the batch does not fit.
        """
        if self._rows is None or self._rows.out_to_loss is not None:
            raise UserError("no checkpoint is loaded to score with; call start_scoring_checkpoint(...) first")
        self._require_features(self._model_id)
        self._add(batch, inds, num_samples)

    def finalize_scores(self, exp_name: str, model_ids: Iterable[int] | None = None, allow_skip: bool = False) -> np.memmap:
        """Scores (train_set_size, num_targets), positive = helpful: the mean over models of the product, times the mean of Q.

        model_ids: by default all in save_dir; allow_skip: leave a model out whose targets are not complete. Each model's own
        scores, with its own Q, are kept too: scores_of_model reads them. Raises UserError if something is missing.
        """
        parts = {}
        for model_id in self._folder.model_ids(model_ids):
            self._require_features(model_id)
            try:
                targets = self._target_rows(self._folder.experiment(model_id, exp_name), None)
                targets.require_complete()
            except UserError as error:
                if not allow_skip:
                    raise
                self.logger.warning("model %s is left out: %s", model_id, error)
                continue
            found = read_array(self._folder.features(model_id, self.lambda_reg))
            out_to_loss = read_array(self._folder.model(model_id) / "out_to_loss.npy")
            parts[model_id] = ModelParts(found, out_to_loss, targets.gradients)
        if len({len(part.targets) for part in parts.values()}) != 1:
            raise UserError(f"no models in {self._folder.path} scored the same number of targets of {exp_name!r}; score them")
        whole = self._folder.scores(exp_name)
        files = {self._folder.scores(exp_name, model_id): [part] for model_id, part in parts.items()}
        for path, models in (files | {whole: list(parts.values())}).items():
            shape = (self.train_set_size, len(models[0].targets))
            write_array(path, shape, self._solved, scores(models, self._solved, self.device))
        return read_array(whole)

    def scores_of_model(self, exp_name: str, model_id: int) -> np.memmap:
        """One model's scores (train_set_size, num_targets), as finalize_scores left them; raises UserError if it has not."""
        return read_array(self._folder.scores(exp_name, model_id))

    def _add(self, batch: Iterable[Tensor], inds: Iterable[int] | None, num_samples: int | None) -> None:
        batch = [in_single_precision(tensor.to(self.device)) for tensor in batch]
        positions = self._positions(len(batch[0]), inds, num_samples)
        if any(len(tensor) != len(positions) for tensor in batch):
            raise UserError(f"the batch holds {len(batch[0])} examples, not {len(positions)}; give the number it holds")
        # A batch that is partly there is computed as a whole, so that its bytes do not depend on where a run was killed.
        if not len(positions) or self._rows.are_finished(positions):
            return
        gradients = self._gradients.projected(batch, self._projection)
        out_to_loss = None
        if self._rows.out_to_loss is not None:
            weights, buffers = dict(self.model.named_parameters()), dict(self.model.named_buffers())
            with torch.no_grad():
                given = [tensor.clone() for tensor in batch]
                out_to_loss = self.task.get_out_to_loss_grad(self.model, weights, buffers, given)
            out_to_loss = torch.as_tensor(out_to_loss).reshape(len(positions))
        self._rows.write(positions, gradients, out_to_loss)

    def _positions(self, size: int, inds: Iterable[int] | None, num_samples: int | None) -> np.ndarray:
        if (inds is None) == (num_samples is None):
            raise UserError("give either inds, the examples' positions, or num_samples, the batch's size")
        if inds is None:
            positions = np.arange(self._position, self._position + num_samples)
            self._position += num_samples
        else:
            positions = np.asarray([int(index) for index in inds], dtype=np.int64)
        if len(positions) and not (0 <= positions.min() and positions.max() < self._rows.count):
            raise UserError(
                f"the batch holds example {positions.max() if positions.min() >= 0 else positions.min()}, but "
                f"{self._rows.count} {self._rows.noun} were announced, counted from 0; announce the right number"
            )
        return positions

    def _load(self, checkpoint: dict[str, Tensor], model_id: int) -> None:
        try:
            self.model.load_state_dict(checkpoint)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"the checkpoint of model_id {model_id} is not one of this model: {reason}") from error
        self.model.eval()
        state = self.model.state_dict()
        self._folder.keep_checkpoint(
            model_id, sha256(*(part for name in state for part in (name.encode(), _bytes(state[name]))))
        )
        self._projection = replace(self.projector, seed=stream_seed(self.projector.seed, f"model {model_id}"))
        self._model_id, self._position = model_id, 0

    def _training_rows(self, model_id: int, count: int | None) -> ExampleRows:
        folder = self._folder.model(model_id)
        return open_rows(folder, "training examples", count, self.projector.dimension, self._stored, with_out_to_loss=True)

    def _target_rows(self, folder: Path, count: int | None) -> ExampleRows:
        return open_rows(folder, "targets", count, self.projector.dimension, self._stored, with_out_to_loss=False)

    def _require_features(self, model_id: int) -> None:
        if not self._folder.features(model_id, self.lambda_reg).exists():
            raise UserError(
                f"model {model_id} has no features for lambda_reg={self.lambda_reg}; featurize all training examples and call "
                "finalize_features() before scoring"
            )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
