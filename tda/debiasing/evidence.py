"""All by which training examples are chosen: alignments of scores, and what members and models out of fold say of examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tda.debiasing.confident_learning import label_issues, label_quality
from tda.debiasing.member_signals import MemberSignals
from tda.debiasing.rankings import (
    BALANCE,
    CLASS_BALANCED,
    CONFIDENT_LEARNING,
    FLAGGED,
    FORGETTING,
    GROUP_BALANCED,
    HIGHEST_LOSS,
    LEFT_OUT,
    NEIGHBOURS,
    OWN_SCORES,
    SELF_INFLUENCE,
    Alignment,
    Ranking,
    rankings_of,
)
from tda.debiasing.selections import removals_to_balance
from tda.statistics.prediction_metrics import log_probabilities, losses_of


@dataclass(frozen=True)
class Evidence:
    """What is known of each of the n training examples before anything is changed.

    alignments: of each method. signals: (n,) by name, means over seeds; a boolean one is a verdict, True for harmful.
    predicted: labels (n,) by name. probabilities: (n, C) of models that did not see the example, if asked for.
    own_scores: (n,) by the name of the file they came in, the lowest of the example that should go first.
    """

    alignments: list[Alignment]
    signals: dict[str, np.ndarray] = field(default_factory=dict)
    predicted: dict[str, np.ndarray] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    own_scores: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def new_labels(self) -> np.ndarray | None:
        """Labels (n,) to replace wrong ones by: the out-of-fold predictions."""
        return self.predicted.get("out_of_fold_prediction")

    def rankings(
        self,
        selections: Sequence[str],
        shares: dict[str, int],
        level: float,
        labels: np.ndarray,
        groups: np.ndarray | None,
    ) -> list[Ranking]:
        """The orders of all chosen selections but random ones; labels, groups: (n,), of the training examples."""
        found = [ranking for one in self.alignments for ranking in rankings_of(one, selections, shares, level)]
        for name, values in self.signals.items():
            selection = SELF_INFLUENCE if name.startswith(SELF_INFLUENCE) else _SELECTION_OF.get(name)
            if selection in selections:
                method = {"method": name.removeprefix(f"{SELF_INFLUENCE}_")} if selection == SELF_INFLUENCE else {}
                found.append(Ranking(selection, **method, values=-values, counts=shares))
        found += [Ranking(OWN_SCORES, name, values=values, counts=shares) for name, values in self.own_scores.items()]
        if CONFIDENT_LEARNING in selections:
            quality, flagged = self.signals["label_quality"], self.signals[CONFIDENT_LEARNING]
            found.append(Ranking(CONFIDENT_LEARNING, values=quality, counts=shares))
            found.append(_exactly(CONFIDENT_LEARNING, FLAGGED, np.where(flagged, quality, np.inf), int(flagged.sum())))
        for selection, parts in ((CLASS_BALANCED, labels), (GROUP_BALANCED, groups)):
            if selection in selections:
                found += [Ranking(selection, counts=shares), _exactly(selection, BALANCE, None, removals_to_balance(parts))]
        return [ranking for ranking in found if ranking.counts]


_SELECTION_OF = {"loss": HIGHEST_LOSS, "forgetting": FORGETTING, "neighbours_of_other_labels": NEIGHBOURS}
_SELECTION_OF |= {"left_out_wrong": LEFT_OUT}


def _exactly(selection: str, number: str, values: np.ndarray | None, count: int) -> Ranking:
    return Ranking(selection, values=values, counts={number: count} if count else {})


def member_evidence(
    members: MemberSignals, selections: Sequence[str], self_influence: Sequence[str], neighbours: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Signals and predictions of the members: what the selections need, and loss and prediction always."""
    labels = members.study.train.labels.numpy()
    logits = members.logits("train")
    signals = {"loss": losses_of(logits, labels).mean(axis=0)}
    probabilities = np.exp(log_probabilities(logits)).mean(axis=0)
    predicted = {"prediction": probabilities[:, : len(members.study.task.classes)].argmax(axis=1)}
    if SELF_INFLUENCE in selections:
        for method in self_influence:
            signals[f"{SELF_INFLUENCE}_{method}"] = members.self_influence(method).mean(axis=0, dtype=np.float64)
    if LEFT_OUT in selections:
        signals["left_out_wrong"] = members.left_out_wrong().mean(axis=0, dtype=np.float64)
    if FORGETTING in selections:
        signals["forgetting"] = members.forgetting().mean(axis=0, dtype=np.float64)
    if NEIGHBOURS in selections:
        found = members.neighbours_of_other_labels(neighbours)
        signals["neighbours_of_other_labels"] = found.mean(axis=0, dtype=np.float64)
    return signals, predicted


def out_of_fold_evidence(
    labels: np.ndarray, probabilities: np.ndarray, selections: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Signals and predictions of models that did not see the example, and confident learning's where it is chosen."""
    signals: dict[str, np.ndarray] = {}
    if CONFIDENT_LEARNING in selections:
        signals = {
            "label_quality": label_quality(labels, probabilities),
            CONFIDENT_LEARNING: label_issues(labels, probabilities),
        }
    return signals, {"out_of_fold_prediction": probabilities.argmax(axis=1)}
