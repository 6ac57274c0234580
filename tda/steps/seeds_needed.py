"""Step 5: how many seeds a verdict on a pair needs, from an ensemble's scores and from simulated noise."""

import numpy as np
import pandas as pd
from tqdm import tqdm

from tda.experiments.manifest import chosen_experiment, step
from tda.figures.saving import save_figure
from tda.figures.seeds_needed import draw_seeds_needed
from tda.scores.fresh_scores import fresh_scores, read_checkpoints, score_identity
from tda.scores.score_files import methods_on_disk
from tda.scores.tables import write_table
from tda.settings import SeedsNeeded
from tda.settings.of_experiment import check_counts
from tda.statistics.error_rates import error_rates
from tda.statistics.pair_statistics import FEWEST_SEEDS, require_enough_seeds, seed_scores
from tda.statistics.seeds_needed import verdict_rows
from tda.system.device_names import check_device_name
from tda.system.errors import UserError


def main(settings: SeedsNeeded) -> str:
    """Write both tables and the figure; returns the closing line, which says how many seeds find most of the reliable pairs.

    Raises UserError for unusable settings, and if the experiment or its scores are missing, damaged or of few seeds.
    """
    check_device_name(settings.device)
    check_counts(settings, "draws", "num_pairs", "num_checkpoints", "simulations")
    if not settings.counts or min(settings.counts) < FEWEST_SEEDS:
        raise UserError(f"--counts must be numbers of seeds from {FEWEST_SEEDS}, not {','.join(map(str, settings.counts))}")
    experiment, hashes = chosen_experiment(settings), {}
    folder, checkpoints = experiment.results, read_checkpoints(experiment)
    seeds = checkpoints.seeds(settings.num_seeds)
    with step(experiment, "seeds needed", vars(settings), hashes, seeds=seeds) as record:
        rows = []
        for name in tqdm(methods_on_disk(folder), desc="testing parts of the seeds", delay=2):
            scores = fresh_scores(checkpoints, name, num_seeds=settings.num_seeds)
            require_enough_seeds(scores)
            record.made_from[name] = score_identity(experiment, name, scores)
            hashes.update(scores.metadata["data"])
            sample = seed_scores(scores, min(settings.num_checkpoints, len(scores.epochs)))
            chosen = _pairs(sample.reshape(len(sample), -1), settings.num_pairs)
            counts = tuple(sorted({count for count in settings.counts if count <= len(sample)}))
            if not counts:
                raise UserError(
                    f"method {name} has scores of {len(sample)} seeds, fewer than any of --counts; score more seeds"
                )
            found = verdict_rows(chosen, counts, settings.draws)
            rows += [{"method": name, "all_seeds": len(sample), "pairs": chosen.shape[1]} | row for row in found]
        table = pd.DataFrame(rows)
        errors = pd.DataFrame(error_rates(tuple(sorted(set(settings.counts))), settings.simulations))
        write_table(folder.path / "seeds_needed.csv", table)
        write_table(folder.path / "seed_test_errors.csv", errors)
        save_figure(draw_seeds_needed(table, errors), folder.path / "seeds_needed")
        record.files = sorted([*folder.path.glob("seeds_needed.*"), folder.path / "seed_test_errors.csv"])
    return f"wrote seeds_needed.csv, .png and .pdf and seed_test_errors.csv, in {folder.path}; {_sentence(table)}"


def _pairs(sample: np.ndarray, num_pairs: int) -> np.ndarray:
    """Columns of so many pairs, the same for every method of an experiment; all where there are not more."""
    if sample.shape[1] <= num_pairs:
        return sample
    return sample[:, np.sort(np.random.default_rng(0).choice(sample.shape[1], size=num_pairs, replace=False))]


def _sentence(table: pd.DataFrame) -> str:
    """How much of what all seeds tell the smallest and the larger numbers do, by the t-test."""
    own = table[(table["test"] == "t_test") & (table["verdict"] == "q")]
    mean = own.groupby("seeds")["found"].mean()
    told = ", ".join(f"{count}: {share:.0%}" for count, share in mean.items() if np.isfinite(share))
    most = int(table["all_seeds"].max())
    if not told:
        return f"no pair is reliable by all {most} seeds at q < 0.05"
    return (
        f"of the pairs that are reliable by all {most} seeds (q < 0.05), so many are found by fewer, mean over methods: {told}"
    )
