"""Step 5: which methods reproduce leave-one-out as a distribution over training runs."""

from collections.abc import Iterable
from itertools import chain

import pandas as pd
from tqdm import tqdm

from tda.experiments.manifest import chosen_experiment, step
from tda.figures.agreement import REFERENCE, draw_agreement, last_checkpoints
from tda.figures.saving import save_figure
from tda.scores.checked_scores import check_all
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identity
from tda.scores.score_files import Scores, check_comparable, methods_on_disk
from tda.scores.tables import write_table
from tda.settings import AgreementAnalysis
from tda.statistics.agreement import agreement, agreement_between_runs
from tda.statistics.described_runs import describe
from tda.statistics.pair_statistics import require_enough_seeds, seed_scores
from tda.system.device_names import check_device_name
from tda.system.errors import UserError
from tda.system.threads import in_threads

MOST_CHECKPOINTS = 5


def main(settings: AgreementAnalysis) -> str:
    """Write both tables and the figure; returns the closing line, which names the method that is closest to LOO.

    A seed's score is the mean over its last 1, 2, ... checkpoints, up to five or as many as there are. Raises UserError if the
    experiment or its scores are missing, damaged or of fewer than three seeds, if LOO is not among them or is alone, or if
    methods cannot be compared.
    """
    check_device_name(settings.device)
    if not 1 <= settings.num_checkpoints <= MOST_CHECKPOINTS:
        raise UserError(f"--num_checkpoints {settings.num_checkpoints} must lie in 1 to {MOST_CHECKPOINTS}")
    experiment, hashes = chosen_experiment(settings), {}
    folder = experiment.results
    checkpoints = read_checkpoints(experiment)
    seeds = checkpoints.seeds(settings.num_seeds)
    with step(experiment, "agreement", vars(settings), hashes, seeds=seeds) as record:
        names = methods_on_disk(folder)
        if REFERENCE not in names or len(names) < 2:
            lacking = "another method" if REFERENCE in names else REFERENCE
            command = f"run_tda.py {experiment.arguments} --methods {'all' if REFERENCE in names else REFERENCE}"
            raise UserError(f"{folder.path} has no scores of {lacking} to compare; run {command} first")

        def load(name: str) -> Scores:
            scores = fresh_scores(checkpoints, name, num_seeds=settings.num_seeds)
            require_enough_seeds(scores)
            record.made_from[name] = score_identity(experiment, name, scores)
            hashes.update(scores.metadata["data"])
            return scores

        reference = load(REFERENCE)

        def load_other(name: str) -> Scores:
            scores = load(name)
            check_comparable(reference, scores)
            return scores

        others = check_all([name for name in names if name != REFERENCE], load_other)
        with_loo, between = _tables(reference, others, len(names))
        write_table(folder.path / "agreement_with_loo.csv", with_loo)
        write_table(folder.path / "agreement_between_runs.csv", between)
        shown = min(settings.num_checkpoints, int(between["checkpoints"].max()))
        with_loo, between = (table[table["checkpoints"] == shown] for table in (with_loo, between))
        save_figure(draw_agreement(with_loo, between), folder.path / "agreement_with_loo")
        record.files = sorted(folder.path.glob("agreement_*"))
    return (
        f"wrote agreement_with_loo.csv, .png and .pdf and agreement_between_runs.csv of {len(names)} methods, "
        f"in {folder.path}; {_best(with_loo, between)}"
    )


def _tables(reference: Scores, others: Iterable[Scores], total: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Agreement with LOO and between runs, a row for each method and number of checkpoints; LOO itself in the second alone."""
    numbers = range(1, min(MOST_CHECKPOINTS, len(reference.epochs)) + 1)
    described = {number: describe(seed_scores(reference, number)) for number in numbers}

    def compare(scores: Scores, number: int) -> tuple[dict | None, dict]:
        itself, loo = scores is reference, described[number]
        method = loo if itself else describe(seed_scores(scores, number))
        named = {"method": scores.method, "checkpoints": number, "seeds": len(scores.seed_ids), "pairs": loo.values[0].size}
        between = named | agreement_between_runs(method, loo, itself)
        return None if itself else named | agreement(method, loo), between

    works = ((scores, number) for scores in chain([reference], others) for number in numbers)
    compared = in_threads(lambda work: compare(*work), works)
    rows = list(tqdm(compared, total=total * len(numbers), desc="comparing with LOO", delay=2))
    return pd.DataFrame([row for row, _ in rows if row is not None]), pd.DataFrame([row for _, row in rows])


def _best(with_loo: pd.DataFrame, between: pd.DataFrame) -> str:
    """The method whose scores rank as LOO of the same run does, and what LOO of another run does."""
    best = with_loo.loc[with_loo["spearman_seed"].fillna(-1.0).idxmax()]
    other = between.loc[between["method"] == REFERENCE, "spearman_other_run"].item()
    return (
        f"over {last_checkpoints(best['checkpoints'])} {best['method']} is closest to LOO of the same run: Spearman "
        f"{best['spearman_seed']:.2f} (LOO of another run {other:.2f}), {best['spearman_mean']:.2f} of means over seeds, "
        f"{best['spearman_p_value']:.2f} of p-values"
    )
