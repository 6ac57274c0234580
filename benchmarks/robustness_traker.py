"""Wrong calls of TRAKer, for robustness.py: each must end in one exception that says what to do, or be right."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from robustness_study import Attempt
from torch import Tensor, nn

from tda.system.errors import UserError
from tda.trak import TRAKer

TRAIN, TARGETS = 8, 3


class Ends:
    """A program with one checkpoint, up to the point at which a case goes wrong."""

    def __init__(self, folder: Path, **options: object) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        arguments = {"task": "image_classification", "train_set_size": TRAIN, "device": "cpu", "proj_dim": 4}
        self.traker = TRAKer(self.model, save_dir=folder, **(arguments | options))

    @property
    def state(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def featurized(self) -> "Ends":
        self.traker.load_checkpoint(self.state, model_id=0)
        self.traker.featurize(batch(TRAIN), num_samples=TRAIN)
        self.traker.finalize_features()
        return self

    def scored(self, name: str = "a") -> "Ends":
        self.featurized().traker.start_scoring_checkpoint(name, self.state, 0, TARGETS)
        self.traker.score(batch(TARGETS, 1), num_samples=TARGETS)
        return self


def batch(count: int, seed: int = 0, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Images and labels of three classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 2, 2, generator=generator)
    return images, torch.arange(count) % 3 if labels is None else labels


def _loaded(folder: Path) -> TRAKer:
    ends = Ends(folder)
    ends.traker.load_checkpoint(ends.state, model_id=0)
    return ends.traker


def _featurize(labels: Tensor | None = None, **arguments: object) -> Callable[[Path], object]:
    given = arguments or {"num_samples": TRAIN}
    return lambda folder: _loaded(folder).featurize(batch(TRAIN, labels=labels), **given)


def _spoilt(content: bytes, name: str) -> Callable[[Path], object]:
    def call(folder: Path) -> object:
        Ends(folder).scored().traker.finalize_scores("a")
        for path in folder.glob(name):
            path.write_bytes(content)
        return Ends(folder).scored("b").traker.finalize_scores("b")

    return call


CASES: dict[str, Callable[[Path], object]] = {
    "train_set_size 0": lambda folder: Ends(folder, train_set_size=0),
    "train_set_size negative": lambda folder: Ends(folder, train_set_size=-1),
    "unknown task": lambda folder: Ends(folder, task="no_task"),
    "task None": lambda folder: Ends(folder, task=None),
    "proj_dim 0": lambda folder: Ends(folder, proj_dim=0),
    "lambda_reg negative": lambda folder: Ends(folder, lambda_reg=-1.0),
    "lambda_reg nan": lambda folder: Ends(folder, lambda_reg=float("nan")),
    "unknown parameter": lambda folder: Ends(folder, grad_wrt=["nothing"]).featurized(),
    "no parameter": lambda folder: Ends(folder, grad_wrt=[]).featurized(),
    "unknown device": lambda folder: Ends(folder, device="nonsense"),
    "featurize before load_checkpoint": lambda folder: Ends(folder).traker.featurize(batch(2), num_samples=2),
    "score before anything": lambda folder: Ends(folder).traker.score(batch(2), num_samples=2),
    "finalize_features before featurize": lambda folder: Ends(folder).traker.finalize_features(),
    "features of a part": lambda folder: (_featurize(num_samples=TRAIN)(folder), Ends(folder, train_set_size=TRAIN + 1)),
    "start_scoring_checkpoint before featurize": lambda folder: (e := Ends(folder)).traker.start_scoring_checkpoint(
        "a", e.state, 0, 3
    ),
    "finalize_scores before score": lambda folder: Ends(folder).featurized().traker.finalize_scores("a"),
    "another checkpoint's shapes": lambda folder: Ends(folder).traker.load_checkpoint(nn.Linear(2, 2).state_dict(), 0),
    "a checkpoint that is no dict": lambda folder: Ends(folder).traker.load_checkpoint("checkpoint.pt", 0),
    "model_id negative": lambda folder: (e := Ends(folder)).traker.load_checkpoint(e.state, -1),
    "num_targets 0": lambda folder: (e := Ends(folder).featurized()).traker.start_scoring_checkpoint("a", e.state, 0, 0),
    "exp_name a/b": lambda folder: (e := Ends(folder).featurized()).traker.start_scoring_checkpoint("a/b", e.state, 0, 3),
    "exp_name empty": lambda folder: (e := Ends(folder).featurized()).traker.start_scoring_checkpoint("", e.state, 0, 3),
    "neither inds nor num_samples": lambda folder: _loaded(folder).featurize(batch(2)),
    "both inds and num_samples": lambda folder: _loaded(folder).featurize(batch(2), inds=[0, 1], num_samples=2),
    "more examples than announced": lambda folder: _loaded(folder).featurize(batch(TRAIN + 1), num_samples=TRAIN + 1),
    "num_samples of another batch": _featurize(num_samples=3),
    "inds outside": lambda folder: _loaded(folder).featurize(batch(2), inds=[0, 99]),
    "inds negative": lambda folder: _loaded(folder).featurize(batch(2), inds=[0, -1]),
    "inds twice": lambda folder: _loaded(folder).featurize(batch(2), inds=[1, 1]),
    "labels that are no class": _featurize(torch.full((TRAIN,), 3)),
    "labels of -1": _featurize(torch.full((TRAIN,), -1)),
    "labels of 255": _featurize(torch.full((TRAIN,), 255)),
    "labels that are floats": _featurize(torch.zeros(TRAIN)),
    "a batch of one tensor": lambda folder: _loaded(folder).featurize((batch(2)[0],), num_samples=2),
    "an image with NaN": lambda folder: _loaded(folder).featurize(
        (torch.full((2, 3, 2, 2), torch.nan), torch.zeros(2).long()), num_samples=2
    ),
    "images of another size": lambda folder: _loaded(folder).featurize(
        (torch.zeros(2, 3, 5, 5), torch.zeros(2).long()), num_samples=2
    ),
    "other targets, one name": lambda folder: (Ends(folder).scored().traker.finalize_scores("a"), _other_targets(folder))[1],
    "other training data in the same folder": lambda folder: (Ends(folder).featurized(), _other_training_data(folder))[1],
    "another train_set_size in the same folder": lambda folder: (Ends(folder).featurized(), Ends(folder, train_set_size=9)),
    "another proj_dim in the same folder": lambda folder: (Ends(folder).featurized(), Ends(folder, proj_dim=5)),
    "another model_id's weights": lambda folder: (Ends(folder).featurized(), _other_weights(folder)),
    "settings.json that is no JSON": _spoilt(b"{", "settings.json"),
    "gradients.npy cut off": _spoilt(b"\x93NUMPY", "0/gradients.npy"),
    "features.npy empty": _spoilt(b"", "0/features_*.npy"),
    "a saver of one's own": lambda folder: Ends(folder, saver=object()),
    "a score_computer of one's own": lambda folder: Ends(folder, score_computer=object()),
}


def _other_targets(folder: Path) -> object:
    """Scores of other targets under a name that has scores: equal to those in a folder of their own."""
    found, expected = _scores_of_other(folder, TARGETS, 0), _scores_of_other(folder / "own", TARGETS, 0)
    return _same(found, expected)


def _other_training_data(folder: Path) -> object:
    found, expected = _scores_of_other(folder, 0, TRAIN), _scores_of_other(folder / "own", 0, TRAIN)
    return _same(found, expected)


def _scores_of_other(folder: Path, targets: int, training: int) -> np.ndarray:
    ends = Ends(folder)
    ends.traker.load_checkpoint(ends.state, model_id=0)
    ends.traker.featurize(batch(TRAIN, seed=7 if training else 0), num_samples=TRAIN)
    ends.traker.finalize_features()
    ends.traker.start_scoring_checkpoint("a", ends.state, 0, TARGETS)
    ends.traker.score(batch(TARGETS, seed=7 if targets else 1), num_samples=TARGETS)
    return np.array(ends.traker.finalize_scores("a"))


def _same(found: np.ndarray, expected: np.ndarray) -> bool:
    if not np.allclose(found, expected):
        raise ValueError("scores of what was there before")
    return True


def _other_weights(folder: Path) -> None:
    ends = Ends(folder)
    with torch.no_grad():
        ends.model[1].weight += 1
    ends.traker.load_checkpoint(ends.state, model_id=0)


def traker_attempts() -> Iterator[Attempt]:
    """Every case, handled where it ends in a UserError of one sentence or gives True: the right scores."""
    for title, case in CASES.items():
        yield Attempt("TRAKer", title, partial(_outcome, case))


def _outcome(case: Callable[[Path], object]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            if case(Path(folder) / "traker") is True:
                return [""]
        except UserError as error:
            return ["" if str(error) else "an error without a sentence"]
        except Exception as error:
            return [f"{type(error).__name__}: {str(error)[:100]}"]
    return ["no error"]
