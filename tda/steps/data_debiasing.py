"""Step 8: which training examples should go, and does it help? Choose by one part of the test subset, judge by the other."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tda.debiasing.alignments import method_alignments
from tda.debiasing.candidates import candidate_table
from tda.debiasing.changes import (
    ACTIONS,
    RELABEL,
    Change,
    Metrics,
    TrainingData,
    changes_of,
    comparison_rows,
    random_references,
)
from tda.debiasing.confident_learning import require_cleanlab
from tda.debiasing.evidence import Evidence, member_evidence, out_of_fold_evidence
from tda.debiasing.fold_retraining import kept_probabilities
from tda.debiasing.judging import Judge, retrained_metrics
from tda.debiasing.member_signals import MemberSignals
from tda.debiasing.own_scores import read_own_scores
from tda.debiasing.parts import ALL, Named, Parts, SelectionPart, divided, known_groups, named_examples
from tda.debiasing.rankings import (
    AUTO,
    CLASSES,
    CONFIDENT_LEARNING,
    GROUP_BALANCED,
    KNOWN,
    LEFT_OUT,
    NEGATIVE,
    NEIGHBOURS,
    NOT_ANY,
    POSITIVE,
    RANDOM,
    SELECTIONS,
    SELF_INFLUENCE,
    SIGNIFICANT,
    Alignment,
    Ranking,
    named_shares,
)
from tda.experiments.manifest import chosen_experiment
from tda.figures.debiasing import draw_debiasing
from tda.figures.galleries import draw_first
from tda.figures.saving import save_figure, save_picture
from tda.methods.registry import load_method
from tda.scores.checked_scores import check_all
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import Scores, methods_on_disk
from tda.scores.tables import add_to_table, row_identity, write_table
from tda.settings import DataDebiasing
from tda.settings.of_experiment import check_counts
from tda.statistics.group_alignment import group_codes
from tda.statistics.pair_statistics import FEWEST_SEEDS, require_enough_seeds
from tda.statistics.prediction_metrics import losses_of
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.training.members import load_member
from tda.training.retrained_logits import LogitStore
from tda.training.study import Study, open_study

KEYS = ("target", "groups", "selection", "method", "action", "number")
_SHARED_SETTINGS = (
    *("beta", "num_checkpoints", "neighbours", "num_folds", "fold_seeds", "level"),
    *("selection_share", "division", "random_draws"),
)
DRAWN_METRICS = ("accuracy", "worst_group_accuracy")


@dataclass(frozen=True)
class Scene:
    """What a choice starts from.

    study: with its members' choices of fine-tuning; seed_ids: of the members; seeds: to train again with, those of the first
    members; names: of the methods; selections: those to make; left_out: sentences about the others; own_scores: (n_train,)
    by file; known: (n_test,) str, groups of the test examples.
    """

    study: Study
    checkpoints: Checkpoints
    seed_ids: list[int]
    seeds: list[int]
    names: list[str]
    selections: list[str]
    left_out: list[str]
    own_scores: dict[str, np.ndarray]
    known: np.ndarray
    parts: Parts
    named: Named | None

    @property
    def again(self) -> str:
        """The command that makes what is missing."""
        return f"run_data_debiasing.py {self.study.experiment.arguments}"


def main(settings: DataDebiasing) -> str:
    """Choose, retrain and write the tables, figures and galleries; returns the closing line.

    Raises UserError for unusable settings, missing scores or foreign data, before anything is trained.
    """
    prepare_process()
    _check(settings)
    scene = _opened(settings)
    study = scene.study
    counts = named_shares(settings.shares, len(study.train))
    if not counts or not all(0 < count < len(study.train) for count in counts.values()):
        given = ",".join(map(str, settings.shares))
        raise UserError(f"--shares {given} of {len(study.train)} training examples take none or all of them; choose others")
    target = settings.matter if scene.named is None else scene.named.title
    with study.step("data debiasing", vars(settings), seed_ids=scene.seed_ids, share=target) as record:
        evidence, judge, all_examples = _evidence(scene, settings)
        labels = study.train.labels.numpy()
        truth = None if study.train.true_labels is None else study.train.true_labels.numpy()
        data = TrainingData(labels, evidence.new_labels, study.train.groups, truth)
        rankings = evidence.rankings(scene.selections, counts, settings.level, labels, data.groups)
        changes = _changes(rankings, counts, data, len(scene.seeds), settings)
        store = LogitStore(study, study.test)
        metrics = retrained_metrics(store, judge, changes, data, scene.seeds, settings.force, scene.again)
        table = pd.DataFrame(comparison_rows(changes, metrics, all_examples, data)).assign(target=target)
        table["retrainings"], table["made_from"] = len(scene.seeds), _made_from(scene, settings)
        table = table[[*KEYS, *(name for name in table.columns if name not in KEYS)]]
        path = study.results.path / "data_debiasing.csv"
        own = {name: sha256(values.tobytes()) for name, values in scene.own_scores.items()}
        table = add_to_table(path, table, KEYS, "made_from", score_identities(study.experiment) | own)
        table = table[table["target"] == target]
        record.made_from = {name: score_identity(study.experiment, name) for name in scene.names}
        record.files = [path, *_write_pictures(scene, settings, table, rankings, evidence)]
    return _closing_line(scene, changes, table)


def _check(settings: DataDebiasing) -> None:
    """Raise UserError for settings that no experiment could have."""
    check_counts(settings, "num_checkpoints", "neighbours", "fold_seeds", "num_retrainings", "random_draws", "shown")
    if settings.num_folds < 2:
        raise UserError(f"--num_folds {settings.num_folds} is too small; choose 2 or more")
    if not 0 < settings.level < 1:
        raise UserError(f"--level is a q-value, between 0 and 1, not {settings.level}")
    for name, known in (("selections", SELECTIONS), ("actions", ACTIONS), ("groups", (KNOWN, CLASSES, AUTO))):
        unknown = sorted(set(getattr(settings, name)) - set(known))
        if unknown:
            raise UserError(f"--{name} has no {unknown[0]}; choose of {', '.join(known)}")
    if not settings.actions or not settings.groups:
        raise UserError("--actions and --groups need a word each at least, such as remove and known")


def _opened(settings: DataDebiasing) -> Scene:
    """Open the study, read what scores there are, and divide the test subset; raises UserError for what cannot be done."""
    study = open_study(chosen_experiment(settings), settings.device)
    if study.train.labels.dim() != 1:
        raise UserError("examples can be relabelled and judged where each has one class, and those of this task are tokens")
    checkpoints = read_checkpoints(study.experiment)
    seed_ids = study.trained_seed_ids(checkpoints, settings.num_seeds)
    study = load_member(study, seed_ids[0], study.plan.kept_epochs[-1]).study
    selections, left_out = _possible(settings, study, len(seed_ids))
    by_scores = {NEGATIVE, POSITIVE, SIGNIFICANT} & set(selections)
    names = list(dict.fromkeys(settings.methods or methods_on_disk(study.results))) if by_scores or settings.methods else []
    for method in map(load_method, settings.self_influence if SELF_INFLUENCE in selections else ()):
        method.check(study, seed_ids, method.settings)
    named_alike = [name for name, count in Counter(Path(file).stem for file in settings.own_scores).items() if count > 1]
    if named_alike:
        raise UserError(
            f"--own_scores names two files {named_alike[0]}, by which their rows are told apart; rename one of them"
        )
    own = {Path(file).stem: read_own_scores(Path(file), study.train) for file in settings.own_scores}
    known = known_groups(study.task, study.test.groups, study.test.labels.numpy())
    strata = np.array([f"{group}, {label}" for group, label in zip(known, study.test.labels.tolist(), strict=True)])
    parts = divided(group_codes(strata)[1], settings.selection_share, settings.division)
    named = named_examples(study, settings.matter)
    seeds = [study.seed(seed_id) for seed_id in seed_ids[: settings.num_retrainings]]
    return Scene(study, checkpoints, seed_ids, seeds, names, selections, left_out, own, known, parts, named)


def _possible(settings: DataDebiasing, study: Study, num_seeds: int) -> tuple[list[str], list[str]]:
    """The selections that can be made, and sentences about the others; raises UserError for one that is named and cannot."""

    def no_groups() -> None:
        if study.train.groups is None:
            raise UserError("group_balanced needs groups of the training examples, which this task does not know")

    def few_seeds() -> None:
        if num_seeds < FEWEST_SEEDS:
            raise UserError(f"significant needs scores of at least {FEWEST_SEEDS} seeds, and there are {num_seeds}")

    def few_examples() -> None:
        if settings.neighbours >= len(study.train):
            raise UserError(f"--neighbours {settings.neighbours} needs more than the {len(study.train)} training examples")

    def no_base() -> None:
        if study.family.choices is None:
            raise UserError("left_out needs a base model that saw none of the labels, and this one is trained from scratch")

    needs = {NEIGHBOURS: few_examples, CONFIDENT_LEARNING: require_cleanlab, GROUP_BALANCED: no_groups, SIGNIFICANT: few_seeds}
    needs[LEFT_OUT] = no_base
    found, left_out = [], []
    for name in settings.selections or SELECTIONS:
        try:
            needs.get(name, lambda: None)()
            found.append(name)
        except UserError as error:
            if settings.selections:
                raise
            left_out.append(f"left out {name}: {error}")
    return found, left_out


def _evidence(scene: Scene, settings: DataDebiasing) -> tuple[Evidence, Judge, Metrics]:
    """All that choices are made by; the part that judges them; and the members, trained on all examples, judged by it."""
    study, test_labels = scene.study, scene.study.test.labels.numpy()
    alignments_of = _scores_checked(scene, settings.num_seeds)
    members = MemberSignals(study, scene.checkpoints, scene.seed_ids)
    logits = members.logits("test")
    losses, correct = losses_of(logits, test_labels).mean(axis=0), (logits.argmax(axis=2) == test_labels).mean(axis=0)
    chosen, report = scene.parts.selection, scene.parts.report
    part = SelectionPart(chosen, test_labels[chosen], losses[chosen], correct[chosen])
    judge = Judge(report, test_labels[report], group_codes(scene.known[report])[1], _target(scene, settings, part))
    alignments: list[Alignment] = []
    options = (settings.groups, settings.matter, settings.beta, scene.named, settings.num_checkpoints)
    for scores in alignments_of:
        alignments += method_alignments(scores, part, scene.known[chosen], *options)
    signals, predicted = member_evidence(members, scene.selections, settings.self_influence, settings.neighbours)
    probabilities = None
    if RELABEL in settings.actions or CONFIDENT_LEARNING in scene.selections:
        seeds = [study.seed(seed_id) for seed_id in scene.seed_ids[: settings.fold_seeds]]
        probabilities = kept_probabilities(study, settings.num_folds, seeds, settings.force, scene.again)
        more = out_of_fold_evidence(study.train.labels.numpy(), probabilities, scene.selections)
        signals, predicted = signals | more[0], predicted | more[1]
    whole = judge.metrics(logits[: len(scene.seeds), None])
    return Evidence(alignments, signals, predicted, probabilities, scene.own_scores), judge, whole


def _scores_checked(scene: Scene, num_seeds: int | None) -> Iterator[Scores]:
    """The scores of each method, all of which are read and checked before the first is used."""

    def load(name: str) -> Scores:
        scores = fresh_scores(scene.checkpoints, name, scene.study.hashes, num_seeds)
        if SIGNIFICANT in scene.selections:
            require_enough_seeds(scores)
        return scores

    return check_all(scene.names, load)


def _target(scene: Scene, settings: DataDebiasing, part: SelectionPart) -> np.ndarray:
    """Which examples of the report part (m,) bool matter: all, those of the file, or those of the worst group as selected."""
    report = scene.parts.report
    if settings.matter == ALL:
        return np.ones(len(report), dtype=bool)
    if scene.named is not None:
        return np.isin(report, scene.named.positions)
    return scene.known[report] == part.worst(scene.known[part.positions])


def _changes(
    rankings: Sequence[Ranking], shares: dict[str, int], data: TrainingData, num_seeds: int, settings: DataDebiasing
) -> list[Change]:
    """Every change that is to be tried, and random ones of the same numbers."""
    options = data, settings.actions, num_seeds, settings.random_draws
    found = [change for ranking in rankings for change in changes_of(ranking, *options)]
    return found + random_references(found, shares, *options)


def _made_from(scene: Scene, settings: DataDebiasing) -> str:
    """What a row of the table must share with another to stand beside it: data, members, parts, and how it was judged."""
    study = scene.study
    hashes = scene.checkpoints.hashes
    chosen = {name: getattr(settings, name) for name in _SHARED_SETTINGS}
    known = (scene.known.tolist(), None if study.train.groups is None else study.train.groups.tolist())
    trained = (study.hashes, study.plan.as_dict(), study.family.origin(study.task), hashes, scene.seed_ids, scene.seeds)
    return row_identity(trained, known, chosen)


def _write_pictures(
    scene: Scene, settings: DataDebiasing, table: pd.DataFrame, rankings: Sequence[Ranking], evidence: Evidence
) -> list[Path]:
    """Write the list of candidates, the curves and the galleries; returns the paths of the files."""
    study, folder = scene.study, scene.study.results.path
    candidates = folder / "removal_candidates.csv"
    of_train = (evidence.alignments, evidence.signals, evidence.predicted, settings.level)
    write_table(candidates, candidate_table(study.task, study.train, *of_train))
    for metric in DRAWN_METRICS:
        save_figure(draw_debiasing(table, metric), folder / f"data_debiasing_{metric}")
    predicted = evidence.predicted["prediction"] if evidence.new_labels is None else evidence.new_labels
    for ranking in rankings:
        if ranking.values is not None and ranking.selection != SIGNIFICANT and "%" in next(iter(ranking.counts)):
            name = "_".join([ranking.selection, *(part for part in (ranking.method, ranking.groups) if part != NOT_ANY)])
            picture = draw_first(study.task, study.train, ranking, predicted, settings.shown)
            save_picture(picture, folder / "galleries" / f"{name}.png")
    return [candidates, *sorted(folder.glob("data_debiasing_*.*")), *sorted((folder / "galleries").glob("*.png"))]


def _closing_line(scene: Scene, changes: Sequence[Change], table: pd.DataFrame) -> str:
    """What was written, and the largest gain on the report part, which is chosen by looking at it, as the line says."""
    rows = table[(table["removed"] > 0) & (table["selection"] != RANDOM)]
    where = f"figures and galleries of {len(changes)} changes, in {scene.study.results.path}"
    line = f"wrote data_debiasing.csv, removal_candidates.csv, {where}"
    if not len(rows):
        return "; ".join([line, *scene.left_out])
    best = rows.loc[rows["accuracy_minus_all"].idxmax()]
    words = [best[name] for name in ("action", "selection", "method", "groups", "number") if best[name] != NOT_ANY]
    gain = "{accuracy_minus_all:+.3f}".format(**best)
    if len(scene.seeds) > 1:
        gain += " [{accuracy_minus_all_low:+.3f}, {accuracy_minus_all_high:+.3f}]".format(**best)
    line += f"; the largest gain of accuracy, of {len(rows)} looked at, is {gain} by {' '.join(words)}"
    return "; ".join([line, *scene.left_out])
