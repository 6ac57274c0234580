"""Where a TRAKer keeps what, and with which settings it was begun.

save_dir/settings.json; save_dir/<model_id>/ with checkpoint.json, the training examples' gradients.npy, out_to_loss.npy and
finished.npy, and features_<lambda>.npy; save_dir/<model_id>/<exp_name>/ with the targets' gradients.npy and finished.npy;
save_dir/scores/<exp_name>.mmap and <exp_name>_model_<model_id>.mmap, which are in the .npy format.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tda.system.errors import UserError
from tda.system.files import write_text


@dataclass(frozen=True)
class SaveFolder:
    """A TRAKer's folder."""

    path: Path

    def model(self, model_id: int) -> Path:
        """What belongs to one checkpoint."""
        return self.path / str(int(model_id))

    def experiment(self, model_id: int, exp_name: str) -> Path:
        """One checkpoint's targets; raises UserError if the experiment's name cannot name a folder."""
        if not re.fullmatch(r"\w[\w.+ -]*", exp_name):
            raise UserError(f"exp_name {exp_name!r} cannot name a folder; use letters, digits, '_', '-' and '.'")
        return self.model(model_id) / exp_name

    def features(self, model_id: int, ridge: float | None) -> Path:
        """One checkpoint's features with one lambda, None for the mean of the kernel's diagonal."""
        return self.model(model_id) / f"features_{'mean_diagonal' if ridge is None else repr(float(ridge))}.npy"

    def scores(self, exp_name: str, model_id: int | None = None) -> Path:
        """The scores of all models together, or of one."""
        return self.path / "scores" / f"{exp_name}{'' if model_id is None else f'_model_{int(model_id)}'}.mmap"

    def model_ids(self, chosen: Iterable[int] | None = None) -> list[int]:
        """The given checkpoints, or all; raises UserError if one of them, or any at all, was never loaded."""
        loaded = sorted(int(path.parent.name) for path in self.path.glob("*/checkpoint.json"))
        chosen = loaded if chosen is None else list(chosen)
        missing = [model_id for model_id in chosen if model_id not in loaded]
        if missing or not chosen:
            what = f"model_id {missing[0]} was never" if missing else "no checkpoint was"
            raise UserError(f"{what} featurized in {self.path}; call load_checkpoint and featurize first")
        return chosen

    def keep_settings(self, settings: dict) -> None:
        """Keep the settings that the folder is begun with; raises UserError if it was begun with others."""
        kept = _kept(self.path / "settings.json", settings)
        for name, value in settings.items():
            if kept.get(name) != value:
                raise UserError(
                    f"{self.path} was begun with another {name} ({kept.get(name)}, not {value}); choose another save_dir or "
                    "the same arguments"
                )

    def keep_checkpoint(self, model_id: int, fingerprint: str) -> None:
        """Tie a model_id to a checkpoint; raises UserError if it belongs to another."""
        if _kept(self.model(model_id) / "checkpoint.json", {"sha256": fingerprint}) != {"sha256": fingerprint}:
            raise UserError(
                f"model_id {model_id} in {self.path} belongs to another checkpoint; give this one another model_id or choose "
                "another save_dir"
            )


def _kept(path: Path, settings: dict) -> dict:
    """The settings in a file, which is written with the given ones if it is missing."""
    if not path.exists():
        write_text(path, json.dumps(settings, indent=1) + "\n")
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete its folder or choose another save_dir") from error
