"""Step 10: each test example's most helpful and most harmful training examples, found by blocks of scores."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm import tqdm

from tda.experiments.manifest import chosen_experiment
from tda.methods.trak import SMALLEST_FACTOR
from tda.scores.ensemble_scores import ensemble_scores
from tda.scores.fresh_scores import Checkpoints, fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import methods_on_disk
from tda.scores.tables import add_to_table, row_identity
from tda.settings import TopExamples
from tda.settings.of_experiment import budget_in_bytes, check_counts
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.members import load_member
from tda.training.projected_gradients import projection_of, stored_factor, stored_rows
from tda.training.study import Study, open_study
from tda.trak import ridge
from tda.trak.top_examples import Extremes, extremes_of_blocks

STREAMED = "trak_projected_streamed"

Block = tuple[tuple[slice, slice], np.ndarray]


def main(settings: TopExamples) -> str:
    """Write top_examples.csv; returns the closing line.

    Raises UserError for unusable settings, and for missing, damaged or outdated scores or members.
    """
    prepare_process()
    check_counts(settings, "k", "num_checkpoints", "dimension")
    budget = budget_in_bytes(settings.memory_budget)
    if settings.streamed and settings.methods:
        raise UserError("--streamed takes scores from gradients, and --methods names score files; give one of them")
    study = open_study(chosen_experiment(settings), settings.device, may_learn_more=not settings.streamed)
    checkpoints = read_checkpoints(study.experiment)
    path = study.results.path / "top_examples.csv"
    with study.step("top examples", vars(settings), share="streamed" if settings.streamed else "") as record:
        names = [STREAMED] if settings.streamed else list(settings.methods) or methods_on_disk(study.results)
        tables = []
        for name in names:
            if settings.streamed:
                blocks = _streamed(study, checkpoints, settings, budget)
            else:
                blocks = _of_files(study, checkpoints, name, settings, budget)
                record.made_from[name] = score_identity(study.experiment, name)
            extremes = extremes_of_blocks(blocks, min(settings.k, len(study.train)), len(study.test))
            tables.append(_table(study, name, extremes))
        table = pd.concat(tables, ignore_index=True).assign(made_from=_made_from(study, checkpoints, settings))
        add_to_table(path, table, ("method", "test_idx", "end", "place"), "made_from", score_identities(study.experiment))
        record.files = [path]
    return f"wrote {path.name} of {len(study.test)} test examples by {', '.join(names)}, in {path.parent}"


def _of_files(study: Study, checkpoints: Checkpoints, method: str, settings: TopExamples, budget: int) -> Iterator[Block]:
    """The ensemble's scores by a method's files, a few test examples of all training examples at a time."""
    num_seeds = settings.num_seeds or len(checkpoints.seed_ids)
    # Of each member's score: as it is read, in float64, and divided by the factor that some methods' scores have.
    held = 24 * len(study.train) * max(1, num_seeds * len(study.plan.kept_epochs))
    at_once = max(1, budget // held)
    for start in tqdm(range(0, len(study.test), at_once), desc=f"scores of {method}", delay=2):
        columns = slice(start, min(start + at_once, len(study.test)))
        scores = fresh_scores(checkpoints, method, study.hashes, settings.num_seeds, columns)
        kept = min(settings.num_checkpoints, len(scores.epochs))
        yield (slice(0, len(study.train)), columns), ensemble_scores(scores, kept)


def _streamed(study: Study, checkpoints: Checkpoints, settings: TopExamples, budget: int) -> Iterator[Block]:
    """The ensemble's scores by trak_projected, as it defines them, from gradients on disk."""
    ridge.require_room(settings.dimension, budget)
    seed_ids = study.trained_seed_ids(checkpoints, settings.num_seeds)
    epochs = study.plan.kept_epochs[-settings.num_checkpoints :]
    parts = []
    for seed_id, epoch in tqdm([(seed_id, epoch) for seed_id in seed_ids for epoch in epochs], desc="members", delay=2):
        member = load_member(study, seed_id, epoch)
        train, test = (member.study.inputs(split) for split in (study.train, study.test))
        drawn = projection_of(member, settings.dimension, 0, "sparse")
        left, right = stored_rows(member, train, test, drawn, settings.half_precision)
        factor = stored_factor(left, study.device, budget)
        surprise = np.maximum(left.out_to_loss, SMALLEST_FACTOR)
        parts.append(ridge.ModelParts(left.gradients, surprise, ridge.SolvedTargets(right.gradients, factor)))
    yield from ridge.scores(parts, np.dtype(np.float64), study.device, budget)


def _table(study: Study, method: str, extremes: Extremes) -> pd.DataFrame:
    """A row for each test example, end and place."""
    labels = study.train.labels.numpy()
    found = []
    ends = {"helpful": (extremes.helpful, extremes.helpful_scores), "harmful": (extremes.harmful, extremes.harmful_scores)}
    for end, (positions, scores) in ends.items():
        places, targets = np.indices(positions.shape)
        columns = {"test_idx": study.test.indices.numpy()[targets.ravel()], "end": end, "place": places.ravel() + 1}
        columns |= {"train_idx": study.train.indices.numpy()[positions.ravel()], "score": scores.ravel()}
        if labels.ndim == 1:
            columns["train_label"] = labels[positions.ravel()]
        found.append(pd.DataFrame({"method": method, **columns}))
    return pd.concat(found, ignore_index=True)


def _made_from(study: Study, checkpoints: Checkpoints, settings: TopExamples) -> str:
    """What rows must share to stand beside each other: the ensemble, and how many examples are shown of which checkpoints."""
    shown = (settings.k, settings.num_checkpoints, settings.num_seeds)
    return row_identity(study.hashes, checkpoints.hashes, shown)
