"""What a TRAKer's folder holds, by the names of the package `trak`; read only, for the TRAKer alone writes there."""

from pathlib import Path

import numpy as np

from tda.system.errors import UserError
from tda.trak.arrays import read_array
from tda.trak.folder import SaveFolder, read_identity
from tda.trak.refusals import MeaninglessNameError, ModelIDException

__all__ = ["AbstractSaver", "MmapSaver", "ModelIDException"]


class AbstractSaver:
    """The name of trak's base class; a saver of one's own has no place here, and is refused."""

    def __init__(self, save_dir: str | Path, metadata: dict, *args: object, **kwargs: object) -> None:
        """metadata: settings of the TRAKer; other arguments have no effect."""
        self.save_dir = Path(save_dir).resolve()
        self.metadata = metadata


class MmapSaver(AbstractSaver):
    """What the folder save_dir holds at the moment."""

    current_model_id: int | None = None
    current_experiment_name: str | None = None

    def __init__(
        self, save_dir: str | Path, metadata: dict, *args: object, lambda_reg: float | None = None, **kwargs: object
    ) -> None:
        """lambda_reg: that of the features to show, since a folder may hold those of several."""
        super().__init__(save_dir, metadata)
        self.lambda_reg = lambda_reg

    @property
    def model_ids(self) -> dict[int, dict[str, int]]:
        """For each checkpoint whether all its training examples have rows (is_featurized), and whether it is_finalized.

        The latter: whether it has features for lambda_reg, or the factor that takes their place.
        """
        folder = SaveFolder(self.save_dir)
        return {
            model_id: {
                "is_featurized": int(_all_marked(folder.model(model_id) / "marks.npy")),
                "is_finalized": int(self._has_features(folder, model_id)),
            }
            for model_id in folder.model_ids()
        }

    @property
    def experiments(self) -> dict[str, dict[str, object]]:
        """For each exp_name the number of targets, where its scores are to be, and whether they are there."""
        folder = SaveFolder(self.save_dir)
        return {
            name: {
                "num_targets": _count(next(self.save_dir.glob(f"*/targets/{name}/marks.npy"))),
                "scores_path": str(folder.scores(name)),
                "scores_finalized": int(read_identity(folder.scores(name)) is not None),
            }
            for name in folder.experiments()
        }

    @property
    def current_store(self) -> dict[str, np.ndarray]:
        """Arrays of the checkpoint that is loaded, and of its targets, by trak's names, as far as they are there."""
        if self.current_model_id is None:
            raise ModelIDException("no checkpoint is loaded; call load_checkpoint or start_scoring_checkpoint first")
        folder = SaveFolder(self.save_dir)
        model, name = folder.model(self.current_model_id), self.current_experiment_name
        paths = {"grads": model / "gradients.npy", "out_to_loss": model / "out_to_loss.npy"}
        paths["features"] = folder.features(self.current_model_id, self.lambda_reg)
        if name is not None:
            paths[f"{name}_grads"] = folder.experiment(self.current_model_id, name) / "gradients.npy"
            paths[f"{name}_scores"] = folder.scores(name)
        found = {key: read_array(path) for key, path in paths.items() if path.exists()}
        if "out_to_loss" in found:
            found["out_to_loss"] = found["out_to_loss"][:, None]
        marks = read_array(model / "marks.npy")
        return found | {"is_featurized": (marks[:-1] == marks[-1]).astype(np.int32)[:, None]}

    def load_current_store(self, model_id: int, exp_name: str | None = None, *args: object, **kwargs: object) -> None:
        """Let current_store show another checkpoint's arrays, and those of exp_name's targets.

        Further arguments have no effect, and what the TRAKer computes with stays as it is. Raises UserError for a model_id
        that was never loaded.
        """
        (self.current_model_id,) = SaveFolder(self.save_dir).chosen_models([model_id])
        self.current_experiment_name = self.current_experiment_name if exp_name is None else exp_name

    def _has_features(self, folder: SaveFolder, model_id: int) -> bool:
        paths = (folder.features(model_id, self.lambda_reg, kept) for kept in (True, False))
        return any(read_identity(path) is not None for path in paths)

    def __getattr__(self, name: str) -> object:
        """Refuse what would write."""
        writing = ("register_model_id", "serialize_current_model_id_metadata", "init_store", "init_experiment")
        if name in (*writing, "save_scores", "del_grads"):
            raise MeaninglessNameError(
                f"{name} of a saver: a TRAKer alone writes to {self.save_dir}; call the TRAKer's methods"
            )
        raise AttributeError(f"a saver has no {name}")


def require_saver(given: object) -> None:
    """Raise UserError unless a TRAKer is given no saver, or the name of the one there is."""
    if given is not None and given is not MmapSaver:
        raise UserError("saver cannot be replaced: rows, features and scores are written by the TRAKer; leave the argument out")


def _all_marked(path: Path) -> bool:
    if not path.exists():
        return False
    marks = read_array(path)
    return bool((marks[:-1] == marks[-1]).all())


def _count(path: Path) -> int:
    return len(read_array(path)) - 1
