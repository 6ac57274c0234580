"""Where a TRAKer keeps what, and with which settings it was begun.

save_dir/settings.json; save_dir/<model_id>/ with checkpoint.json, the training examples' rows (see store.py) and
features_<lambda>.npy with the identity of the rows that they were made of in features_<lambda>.json, or factor_<lambda>.npy and
.json where no features are kept; save_dir/<model_id>/shards/<start>-<stop>/ with rows that merge_shards joins (shards.py);
save_dir/<model_id>/targets/<exp_name>/ with the targets' rows; save_dir/scores/<exp_name>.mmap, with the identity of the rows
behind it in <exp_name>.json, and save_dir/scores/<model_id>/<exp_name>.mmap. Those are in the .npy format.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tda.system.errors import UserError
from tda.system.files import locked, write_text
from tda.trak.refusals import AssertedError, ModelIDException


@dataclass(frozen=True)
class SaveFolder:
    """A TRAKer's folder."""

    path: Path

    def model(self, model_id: int) -> Path:
        """What belongs to one checkpoint."""
        return self.path / str(model_id)

    def experiment(self, model_id: int, exp_name: str) -> Path:
        """One checkpoint's targets."""
        return self.model(model_id) / "targets" / checked_name(exp_name)

    def experiments(self) -> list[str]:
        """Names of everything that was scored or begun."""
        return sorted({path.parent.name for path in self.path.glob("*/targets/*/marks.npy")})

    def features(self, model_id: int, ridge: float | None, kept: bool = True) -> Path:
        """One checkpoint's features with one lambda, None for the mean of the kernel's diagonal.

        kept: whether the features themselves; else the factor with which targets are solved.
        """
        kind = "features" if kept else "factor"
        return self.model(model_id) / f"{kind}_{'mean_diagonal' if ridge is None else repr(float(ridge))}.npy"

    def shard(self, model_id: int, start: int, stop: int) -> Path:
        """One checkpoint's rows of the training examples from start to before stop, featurized by a program of their own."""
        return self.model(model_id) / "shards" / f"{start}-{stop}"

    def shards(self, model_id: int) -> list[Path]:
        """Every shard that was begun."""
        return sorted(path.parent for path in self.model(model_id).glob("shards/*/marks.npy"))

    def scores(self, exp_name: str, model_id: int | None = None) -> Path:
        """The scores of all models together, or of one."""
        folder = self.path / "scores"
        return (folder if model_id is None else folder / str(model_id)) / f"{checked_name(exp_name)}.mmap"

    def model_ids(self) -> list[int]:
        """Every checkpoint that was loaded."""
        return sorted(int(path.parent.name) for path in self.path.glob("*/checkpoint.json"))

    def checkpoint(self, model_id: int) -> str:
        """The hash of the weights that a model_id belongs to; raises UserError for a damaged file."""
        path = self.model(model_id) / "checkpoint.json"
        found = _read(path)
        if not isinstance(found, dict) or "sha256" not in found:
            raise UserError(f"{path} is damaged; delete its folder or choose another save_dir")
        return found["sha256"]

    def chosen_models(self, chosen: Iterable[int] | None = None) -> list[int]:
        """The given checkpoints, or all; raises UserError if one of them, or any at all, was never loaded."""
        loaded = self.model_ids()
        chosen = loaded if chosen is None else list(dict.fromkeys(chosen))
        missing = [model_id for model_id in chosen if model_id not in loaded]
        if missing or not chosen:
            what = f"model_id {missing[0]} was never" if missing else "no checkpoint was"
            raise ModelIDException(f"{what} featurized in {self.path}; call load_checkpoint and featurize first")
        return chosen

    def keep_settings(self, settings: dict) -> None:
        """Keep the settings that the folder is begun with; raises UserError if it was begun with others, or by `trak`."""
        path = self.path / "settings.json"
        if not path.exists() and (theirs := [*self.path.glob("metadata.json"), *self.path.glob("id_*.json")]):
            raise AssertedError(
                f"{self.path} holds results of the package trak ({theirs[0].name}), whose scores would be overwritten; choose "
                "another save_dir"
            )
        kept = _kept(path, settings)
        for name, value in settings.items():
            if kept.get(name) != value:
                raise AssertedError(
                    f"{self.path} was begun with another {name} ({_short(kept.get(name))}, not {_short(value)}); choose "
                    "another save_dir or the same arguments"
                )

    def keep_parameters(self, names: list[str]) -> None:
        """Keep which parameters gradients are taken of; raises UserError if the folder was begun with others."""
        kept = _kept(self.path / "parameters.json", {"names": names})["names"]
        if kept != names:
            other = next(iter(set(kept) ^ set(names)))
            raise AssertedError(
                f"{self.path} was begun with gradients of other parameters ({len(kept)}, not {len(names)}; {other} is in one "
                "of them only); choose another save_dir or the same grad_wrt and requires_grad"
            )

    def keep_checkpoint(self, model_id: int, fingerprint: str) -> list[int]:
        """Tie a model_id to a checkpoint, and tell which others hold the same; raises UserError if it belongs to another."""
        if _kept(self.model(model_id) / "checkpoint.json", {"sha256": fingerprint}) != {"sha256": fingerprint}:
            raise UserError(
                f"model_id {model_id} in {self.path} belongs to another checkpoint; give this one another model_id or choose "
                "another save_dir"
            )
        others = [other for other in self.model_ids() if other != model_id]
        return [other for other in others if _read(self.model(other) / "checkpoint.json") == {"sha256": fingerprint}]


def checked_name(exp_name: str) -> str:
    """An experiment's name; raises UserError if it cannot name a folder."""
    if not isinstance(exp_name, str) or not re.fullmatch(r"\w[\w.+ -]*", exp_name):
        raise UserError(f"exp_name {exp_name!r} cannot name a folder; use letters, digits, '_', '-' and '.'")
    return exp_name


def write_identity(array: Path, identity: object) -> None:
    """Say what an array that is now written was made of."""
    write_text(array.with_suffix(".json"), json.dumps(identity, indent=1) + "\n")


def forget_identity(array: Path) -> None:
    """An array is about to be replaced: a run that ends in between leaves none that says what it is of."""
    array.with_suffix(".json").unlink(missing_ok=True)


def read_identity(array: Path) -> object:
    """What an array was made of, None where it is not there or was not finished."""
    path = array.with_suffix(".json")
    return _read(path) if array.exists() and path.exists() else None


def _kept(path: Path, settings: dict) -> dict:
    """The settings in a file, which is written with the given ones if it is missing."""
    # Of several programs that start together one writes, and the others read what it wrote.
    with locked(path):
        if not path.exists():
            write_text(path, json.dumps(settings, indent=1) + "\n")
    found = _read(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged; delete its folder or choose another save_dir")
    return found


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged; delete its folder or choose another save_dir") from error


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:20]}..."
