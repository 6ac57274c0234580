"""Step 8: what scores are good for: wrong labels, classes and groups, agreement of seeds, and whether they need the model."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from tda.debiasing.judged_scores import ONE_SEED, Row, alike_rows, best_of, overlap_rows, row, suspicion_rows
from tda.debiasing.randomised_model import scores_of_shuffled
from tda.debiasing.suspicion import Suspects, check_suspicions, self_influences, suspicion
from tda.experiments.manifest import chosen_experiment
from tda.figures.saving import save_figure
from tda.figures.score_metrics import draw_score_metrics
from tda.methods.registry import load_method
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import Scores, methods_on_disk
from tda.scores.tables import add_to_table, row_identity
from tda.settings import ScoreMetrics
from tda.settings.of_experiment import check_counts
from tda.statistics.detection import mean_rank_correlation, mean_rank_correlation_of_kind
from tda.statistics.intervals import over_seeds
from tda.statistics.pair_statistics import seed_scores
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.members import built, load_member
from tda.training.study import Study, open_study

ALL, MEAN_SCORE = "all", "mean_score_"


def main(settings: ScoreMetrics) -> str:
    """Compute the metrics and write score_metrics.csv, .png and .pdf; returns the closing line.

    Raises UserError for unusable settings, for missing members or scores, and for a metric that is named and whose truth the
    task does not know.
    """
    prepare_process()
    check_counts(settings, "highest", "num_checkpoints", "folds")
    check_suspicions(settings.suspicions)
    of_themselves = [load_method(name) for name in settings.self_influence]
    _ = [load_method(name) for name in settings.randomised]
    study = open_study(chosen_experiment(settings), settings.device)
    work = Work(study, settings, read_checkpoints(study.experiment))
    chosen, left_out = work.feasible()
    for method in of_themselves if "wrong_labels" in chosen else ():
        method.check(study, work.seed_ids, method.settings)
    path = study.results.path / "score_metrics.csv"
    with study.step("score metrics", vars(settings)) as record:
        rows = [found for name in chosen for found in work.metrics[name]()]
        table = pd.DataFrame(rows).assign(num_seeds=len(work.seed_ids), made_from=work.made_from())
        current = score_identities(study.experiment)
        current |= {f"{MEAN_SCORE}{name}": identity for name, identity in current.items()}
        table = add_to_table(path, table, ("metric", "score", "seeds"), "made_from", current, named="score")
        save_figure(draw_score_metrics(table), path.with_suffix(""))
        record.made_from = {name: score_identity(study.experiment, name) for name in work.scores}
        record.files = sorted(path.parent.glob(f"{path.stem}.*"))
    said = [f"wrote {len(rows)} rows of {path.name}, and its figure, in {path.parent}"]
    if "wrong_labels" in chosen and len(rows):
        best = best_of(rows, "wrong_labels_auc")
        said.append(f"wrong labels are found best by {best['score']}, area under the curve {best['value']:.3f}")
    return "; ".join([*said, *left_out])


class Work:
    """What the metrics share: the members, the scores that were read, and the truth that the task knows."""

    def __init__(self, study: Study, settings: ScoreMetrics, checkpoints: Checkpoints) -> None:
        self.study, self.settings, self.checkpoints = study, settings, checkpoints
        self.seed_ids = study.trained_seed_ids(checkpoints, settings.num_seeds)
        if len(self.seed_ids) < 2:
            raise UserError(f"{study.experiment.name} has one seed; intervals over seeds need 2 or more, so train others too")
        self.scores: dict[str, Scores] = {}
        self.metrics: dict[str, Callable[[], list[Row]]] = {
            "wrong_labels": self._wrong_labels,
            "class": self._classes,
            "group": self._groups,
            "overlap": lambda: overlap_rows(self._of_seeds(), settings.highest),
            "randomised": self._randomised,
        }

    def feasible(self) -> tuple[list[str], list[str]]:
        """The metrics to compute, and sentences about those left out; raises UserError for a named one that lacks something."""
        names = self.settings.metrics
        if unknown := [name for name in names if name not in (*self.metrics, ALL)]:
            raise UserError(f"unknown metric {unknown[0]}; known ones are {', '.join(self.metrics)}, or {ALL}")
        if not names:
            raise UserError(f"no metric is chosen; known ones are {', '.join(self.metrics)}, or {ALL}")
        needs = {name: self._missing(name) for name in self.metrics}
        for name in names:
            if name != ALL and needs[name]:
                raise UserError(f"metric {name} cannot be computed: {needs[name]}")
        chosen = [name for name in self.metrics if (ALL in names or name in names) and not needs[name]]
        if not chosen:
            raise UserError(f"no metric can be computed: {'; '.join(dict.fromkeys(filter(None, needs.values())))}")
        return chosen, [f"left out {name}: {needs[name]}" for name in self.metrics if ALL in names and needs[name]]

    def _missing(self, metric: str) -> str:
        """Why a metric cannot be computed; empty where it can."""
        train, test = self.study.train, self.study.test
        if metric in ("wrong_labels", "class") and train.labels.dim() != 1:
            return "an example of this task has no single class"
        if metric == "wrong_labels":
            if train.true_labels is None:
                return f"task {self.study.task.name} does not know its true labels"
            wrong = (train.true_labels != train.labels).sum()
            return "" if 0 < wrong < len(train) else f"of {len(train)} labels {wrong} are wrong"
        if metric == "group" and (train.groups is None or test.groups is None):
            return f"task {self.study.task.name} knows no groups"
        if self.settings.highest > len(train):
            raise UserError(f"--highest {self.settings.highest} is more than the {len(train)} training examples")
        return "" if self._methods() else "there are no score files; run a scoring script (step 3) first"

    def _methods(self) -> list[str]:
        """Methods whose score files are judged."""
        if self.settings.methods:
            return list(self.settings.methods)
        try:
            return methods_on_disk(self.study.results)
        except UserError:
            return []

    def _read(self, method: str) -> Scores:
        if method not in self.scores:
            self.scores[method] = fresh_scores(self.checkpoints, method, self.study.hashes, self.settings.num_seeds)
        return self.scores[method]

    def _of_seeds(self) -> Mapping[str, np.ndarray]:
        """Scores (seeds, n_train, n_test) of each method, the mean over each seed's last checkpoints."""
        found = {name: self._read(name) for name in self._methods()}
        kept = self.settings.num_checkpoints
        return {name: seed_scores(scores, min(kept, len(scores.epochs))) for name, scores in found.items()}

    def _wrong_labels(self) -> list[Row]:
        last, train = self.study.plan.kept_epochs[-1], self.study.train
        members = built([load_member(self.study, seed_id, last) for seed_id in self.seed_ids])
        suspects = Suspects(self.study, members, self.settings.folds)
        found = {name: suspicion(suspects, name) for name in self.settings.suspicions}
        found |= {
            f"self_influence_{name}": self_influences(suspects, load_method(name)) for name in self.settings.self_influence
        }
        # A wrong label does harm: its mean score is low.
        found |= {f"{MEAN_SCORE}{name}": -scores.mean(axis=2) for name, scores in self._of_seeds().items()}
        if not found:
            raise UserError("nothing looks for wrong labels; give --suspicions, --self_influence or score files")
        return suspicion_rows(found, (train.true_labels != train.labels).numpy(), self.settings.compare_with)

    def _classes(self) -> list[Row]:
        train, test = self.study.train, self.study.test
        kinds = (split.labels.numpy() for split in (train, test))
        return alike_rows("class", self._of_seeds(), self.settings.highest, *kinds)

    def _groups(self) -> list[Row]:
        train, test = self.study.train, self.study.test
        return alike_rows("group", self._of_seeds(), self.settings.highest, train.groups, test.groups)

    def _randomised(self) -> list[Row]:
        rows, last = [], self.study.plan.kept_epochs[-1]
        for name in (name for name in self.settings.randomised if name in self._methods()):
            scores, method, correlations = self._read(name), load_method(name), {}
            kinds = () if self._missing("class") else (self.study.train.labels.numpy(), self.study.test.labels.numpy())
            for place, seed_id in enumerate(scores.seed_ids):
                (member,) = built([load_member(self.study, seed_id, last)])
                train, test = (member.study.inputs(split) for split in (self.study.train, self.study.test))
                other = scores_of_shuffled(method, member, train, test, scores.metadata["settings"]).cpu().numpy()
                pair = (scores.values[place, -1], other)
                correlations.setdefault("randomised", []).append(mean_rank_correlation(*pair))
                if kinds:
                    within = mean_rank_correlation_of_kind(*pair, *kinds)
                    correlations.setdefault("randomised_same_class", []).append(within)
            for metric, values in correlations.items():
                rows.append(row(metric, name, ONE_SEED, over_seeds(np.array(values)), 0.0))
        return rows

    def made_from(self) -> str:
        """What a row must share with another to stand beside it: data, members, and how it was computed."""
        study, settings = self.study, self.settings
        how = (settings.highest, settings.folds, settings.num_checkpoints, settings.compare_with)
        members = [self.checkpoints.hash_of((seed_id, study.plan.kept_epochs[-1])) for seed_id in self.seed_ids]
        return row_identity(study.hashes, members, how)
