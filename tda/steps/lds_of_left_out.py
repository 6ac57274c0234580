"""The part of the LDS step that leaves small or large subsets out, of the members' own runs or with other seeds."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm import tqdm

from tda.experiments.manifest import chosen_experiment
from tda.figures.left_out_lds import draw_left_out
from tda.figures.saving import save_figure
from tda.scores.checked_scores import check_all
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identities, score_identity
from tda.scores.score_files import Scores, check_comparable, methods_on_disk
from tda.scores.tables import add_to_table, row_identity
from tda.settings import LdsEvaluation
from tda.statistics.left_out_lds import Retrained, columns_of_retrainings, lds_columns, predicted_rises
from tda.statistics.pair_statistics import seed_scores
from tda.system.errors import UserError
from tda.system.threads import in_threads
from tda.training.ensembles import said_at_last
from tda.training.evaluation import evaluate
from tda.training.retrainings import RetrainingStore
from tda.training.study import Study, open_study
from tda.training.subset_draws import SubsetDraw, SubsetOutputs, load_subset_outputs, repeated_runs, share_kept

SAME_RUN, OTHER_SEEDS = "same run", "other seeds"
KEYS = ("estimand", "left_out", "checkpoints", "members", "subsets", "retrainings", "method")
"""What tells a row from another; rows of several calls stand beside each other."""
_RANDOM_SEED = 0


def evaluate_left_out(settings: LdsEvaluation) -> str:
    """Write the rows of one kind of retrainings into lds_left_out.csv, and the figure of all; returns the closing line.

    Of the same run, the members are the first `num_retrainings` seeds, and each one's scores are judged by its own repetitions;
    with other seeds, all members (or the first `num_seeds`). A member's score is the mean over its last `num_checkpoints`
    epochs. Raises UserError if the experiment, its scores or the retrainings are missing or of other data, or for too few
    subsets.
    """
    study = open_study(chosen_experiment(settings), settings.device)
    folder, count = study.results, settings.num_retrainings
    alpha = share_kept(settings.alpha, settings.left_out)
    study, seeds = repeated_runs(study, count) if settings.same_run else (study, ())
    draw = check_draw(SubsetDraw("evaluation", alpha, settings.num_subsets, count, seeds))
    estimand, num_seeds = (SAME_RUN, count) if settings.same_run else (OTHER_SEEDS, settings.num_seeds)
    checkpoints = read_checkpoints(study.experiment)
    with study.step("LDS of left-out subsets", vars(settings), share=f"{1 - alpha:g} left out, {estimand}") as record:
        outputs = load_subset_outputs(RetrainingStore(study), draw)

        def load(name: str) -> Scores:
            scores = fresh_scores(checkpoints, name, study.hashes, num_seeds)
            record.made_from[name] = score_identity(study.experiment, name, scores)
            return scores

        names = methods_on_disk(folder)
        judged = check_all(names, load)
        judging = tqdm(_rows(study, judged, outputs, settings), total=len(names) + 2, desc="judging methods", delay=2)
        rows = pd.DataFrame(list(judging))
        named = {"estimand": estimand, "left_out": int((~outputs.masks[0]).sum()), "subsets": draw.num_subsets}
        rows = rows.assign(**named, retrainings=count, made_from=_made_from(study))
        first = ["method", *(key for key in KEYS if key != "method")]
        rows = rows[[*first, *(column for column in rows if column not in first)]]
        table = add_to_table(folder.path / "lds_left_out.csv", rows, KEYS, "made_from", score_identities(study.experiment))
        save_figure(draw_left_out(table), folder.path / "lds_left_out")
        record.files = sorted(folder.path.glob("lds_left_out.*"))
    best = rows[rows["method"].isin(names)].sort_values("lds_run").iloc[-1]
    return (
        f"wrote {len(rows)} rows ({estimand}, {best['left_out']} of {len(study.train)} left out) into lds_left_out.csv and its "
        f"figure, in {folder.path}; highest LDS of one run's scores: {best['lds_run']:.3f}, {best['method']}"
    )


def _rows(study: Study, methods: Iterator[Scores], outputs: SubsetOutputs, settings: LdsEvaluation) -> Iterator[dict]:
    """A row for each method, random scores, and retrainings as predictions of each other."""
    first = next(methods)
    kept = min(settings.num_checkpoints, len(first.epochs))
    named = {"checkpoints": kept, "members": len(first.seed_ids)}
    whole = outputs.whole_losses.numpy() if settings.same_run else _losses_of_members(study, first.seed_ids)
    left_out, truth = ~outputs.masks.numpy(), Retrained(whole, outputs.losses.numpy(), settings.same_run)

    def row(scores: Scores) -> dict:
        check_comparable(first, scores)
        return {"method": scores.method} | named | lds_columns(predicted_rises(left_out, seed_scores(scores, kept)), truth)

    # The first row makes what all compare with, which threads would make several times.
    yield row(first)
    yield from in_threads(row, methods)
    noise = np.random.default_rng(_RANDOM_SEED).normal(size=(len(whole), left_out.shape[1], whole.shape[1]))
    yield {"method": "random"} | named | lds_columns(predicted_rises(left_out, noise), truth)
    yield {"method": "retraining"} | named | columns_of_retrainings(truth)


def _losses_of_members(study: Study, seed_ids: list[int]) -> np.ndarray:
    """Test losses (R, T) float64 of the members' last checkpoints."""
    objective = study.task.objective
    found = said_at_last(study, seed_ids, study.test, lambda model, test: evaluate(model, objective, test).losses)
    return found.double().numpy()


def _made_from(study: Study) -> str:
    """What rows must share to stand beside each other: data, plan and base."""
    return row_identity(study.hashes, study.plan.as_dict(), study.family.origin(study.task), study.seeds)


def check_draw(draw: SubsetDraw) -> SubsetDraw:
    """Raise UserError unless there are enough subsets for a rank correlation."""
    if draw.num_subsets < 3:
        raise UserError(f"a rank correlation needs at least 3 subsets, not {draw.num_subsets}")
    return draw
