"""Datamodels and empirical influence: attributions fitted to retrainings on random subsets (run_subset_retraining.py).

Both regress the margins of retrained models on which training examples the models saw. They need no gradient and no member;
each seed of the ensemble gets its own block of "fitting" subsets, so that seeds are independent and an ensemble of them
stands for as many more subsets. The subsets that judge methods ("evaluation") are never read.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from tda.data.splits import Split
from tda.methods.registry import Attribution, Scorer, register
from tda.statistics.retraining_effect import mean_with_minus_without
from tda.system.errors import UserError
from tda.training.members import Member, load_member
from tda.training.retrainings import RetrainingStore
from tda.training.study import Study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

_PENALTIES = np.logspace(0, 5, 11)


_NEEDS = "retrainings on fitting subsets (run_subset_retraining.py --purpose fitting)"


def _check_retrainings(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    # The study as its members know it, with the base that they were fine-tuned from.
    study, num_subsets = load_member(study, seed_ids[0], study.plan.kept_epochs[-1]).study, settings["num_subsets"]
    draw = SubsetDraw("fitting", settings["alpha"], num_subsets * (max(seed_ids) + 1), 1)
    load_subset_outputs(RetrainingStore(study), draw, first_subset=num_subsets * min(seed_ids))


def _check_regression(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    if settings["penalty"] not in ("ridge", "lasso"):
        raise _unknown(settings["penalty"])
    _check_retrainings(study, seed_ids, settings)


def _unknown(penalty: str) -> UserError:
    return UserError(f"unknown penalty {penalty} for datamodels; known ones are ridge and lasso")


def _once_for_a_seed(score_block: Callable[..., np.ndarray]) -> Scorer:
    """A scorer from a function (masks (S, n), margins (S, n_test), **settings); checkpoints of a seed share its scores."""

    def score(members: list[Member], train: Split, test: Split, settings: dict) -> Iterator[Attribution]:
        settings = dict(settings)
        alpha, num_subsets = settings.pop("alpha"), settings.pop("num_subsets")
        seed_id, study = members[0].seed_id, members[0].study
        _positions_in(study.inputs(study.train), train, "training")
        columns = torch.tensor(_positions_in(study.inputs(study.test), test, "test"))
        draw = SubsetDraw("fitting", alpha, num_subsets * (seed_id + 1), 1)
        found = load_subset_outputs(RetrainingStore(study), draw, first_subset=num_subsets * seed_id)
        scores = score_block(found.masks.numpy(), found.margins[0].index_select(1, columns).numpy(), **settings)
        for _ in members:
            yield Attribution(torch.from_numpy(scores), {"subsets": num_subsets})

    return score


def _positions_in(whole: Split, part: Split, noun: str) -> list[int]:
    """Where a split's examples stand in the study's; raises UserError for any that no retraining saw.

    A retraining is of all training examples, in their order, and its margins are those of the study's test examples.
    """
    known = {identity: position for position, identity in enumerate(_identities(whole))}
    found = [known.get(identity) for identity in _identities(part)]
    if None in found or (noun == "training" and found != list(range(len(whole)))):
        raise UserError(
            f"the retrainings on random subsets know other {noun} examples than these; fit datamodels and empirical influence "
            "to the experiment's own splits"
        )
    return found


def _identities(split: Split) -> list[str]:
    """What tells each example from every other: a hash of its inputs, label and index."""
    return [split[position : position + 1].fingerprint for position in range(len(split))]


@register(
    "datamodels",
    "Datamodels",
    "Ilyas et al. 2022",
    check=_check_regression,
    needs=_NEEDS,
    alpha=0.5,
    num_subsets=100,
    penalty="ridge",
)
@_once_for_a_seed
def datamodels(masks: np.ndarray, margins: np.ndarray, penalty: str) -> np.ndarray:
    """Coefficients (n_train, n_test) of a regularised linear regression of each test margin on the masks.

    penalty: "ridge", chosen for each test example by generalised cross-validation, or "lasso", by five folds.
    Raises UserError if it is neither.
    """
    from sklearn.linear_model import LassoCV, RidgeCV

    if penalty == "ridge":
        # Of a single test example scikit-learn drops the axis.
        return np.atleast_2d(RidgeCV(_PENALTIES, alpha_per_target=True).fit(masks, margins).coef_).T
    if penalty == "lasso":
        fits = (LassoCV(cv=5, random_state=0, max_iter=10_000).fit(masks, column) for column in margins.T)
        return np.stack([fit.coef_ for fit in fits], axis=1)
    raise _unknown(penalty)


@register(
    "empirical_influence",
    "Empirical influence",
    "Feldman and Zhang 2020",
    check=_check_retrainings,
    needs=_NEEDS,
    alpha=0.5,
    num_subsets=100,
)
@_once_for_a_seed
def empirical_influence(masks: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Mean margin of models trained with an example minus that of those without, (n_train, n_test)."""
    return mean_with_minus_without(masks, margins)
