"""Step 7: how smooth a training is as a function of its examples' weights, and what a derivative through it can then tell."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tda.experiments.folders import Experiment
from tda.experiments.manifest import chosen_experiment
from tda.experiments.variant_names import variant_name
from tda.figures.metasmoothness import draw_metasmoothness
from tda.figures.saving import save_figure
from tda.models.families import family_named
from tda.scores.tables import add_to_table, row_identity
from tda.settings import Metasmoothness
from tda.statistics.intervals import Estimate, over_seeds
from tda.statistics.smoothness import curvature, forecast, predicted_removal, sign_agreement
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.probes import Probe, Probed, probe_seed, probed_seeds, removal
from tda.training.study import Study, open_study


def main(settings: Metasmoothness) -> str:
    """Do the missing trainings and write metasmoothness.csv, .png and .pdf; returns the closing line, what the table means.

    A row holds all seeds that were probed. Raises UserError for unusable settings, variants or data, or if a training diverges.
    """
    prepare_process()
    probes = _probes(settings)
    named = chosen_experiment(settings)
    studies = [open_study(experiment, settings.device) for experiment in _with_variants(named, settings.variants)]
    study, others = studies[0], studies[1:]
    seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
    most = max((probe.removed for probe in probes), default=0)
    if most >= len(study.train):
        raise UserError(f"--removed {most} leaves nothing of {len(study.train)} training examples; remove fewer")
    for other in others:
        _probe(other, seed_ids, probes, settings)
    path = study.results.path / "metasmoothness.csv"
    with study.step("metasmoothness", vars(settings), seed_ids=seed_ids) as record:
        trained = _train(study, seed_ids, probes, settings.force)
        record.keep_earlier = not trained
        rows = pd.DataFrame([_row(each, probe) for each in studies for probe in probes])
        rows["made_from"] = _made_from(study, settings)
        table = add_to_table(path, rows, ("experiment", "removed"), "made_from")
        save_figure(draw_metasmoothness(table), path.with_suffix(""))
        record.files = [path, path.with_suffix(".png"), path.with_suffix(".pdf")]
    sentences = [_sentence(table[table["experiment"] == each.experiment.name]) for each in studies]
    return "; ".join([f"wrote {path.name}, .png and .pdf, in {path.parent}", *sentences])


def _probes(settings: Metasmoothness) -> list[Probe]:
    """One over all weights, and one for each number of removed examples."""
    if settings.num_directions < 2:
        raise UserError(f"--num_directions must be 2 or more, not {settings.num_directions}")
    if not settings.weight_step > 0:
        raise UserError(f"--weight_step must be positive, not {settings.weight_step}")
    if not settings.removed or min(settings.removed) < 1:
        raise UserError(f"--removed must be numbers of examples from 1, not {','.join(map(str, settings.removed)) or 'none'}")
    weights = Probe(0, settings.weight_step, settings.num_directions)
    return [weights, *(removal(count, settings.num_directions) for count in sorted(set(settings.removed)))]


def _with_variants(named: Experiment, variants: Sequence[str]) -> list[Experiment]:
    """The experiment and its variants, each once."""
    names = [named.variant, *map(variant_name, variants)]
    return [replace(named, variant=name) for name in dict.fromkeys(names)]


def _probe(study: Study, seed_ids: Sequence[int], probes: Sequence[Probe], settings: Metasmoothness) -> None:
    with study.step("metasmoothness", vars(settings), seed_ids=seed_ids) as record:
        record.keep_earlier = not _train(study, seed_ids, probes, settings.force)


def _train(study: Study, seed_ids: Sequence[int], probes: Sequence[Probe], force: bool) -> int:
    """Probe the seeds that were not; returns how many there were."""
    return sum(probe_seed(study, seed_id, probe, force) for seed_id in seed_ids for probe in probes)


def _row(study: Study, probe: Probe) -> dict:
    """What all probed seeds say of one probe, means over directions, test examples and seeds with intervals over the seeds."""
    seeds = list(probed_seeds(study, probe).values())
    row = {"experiment": study.experiment.name, "removed": probe.removed, "step": probe.step}
    row |= _bounded([each.agreement.mean() for each in seeds]).columns("agreement", "agreement_low", "agreement_high")
    agreement = [sign_agreement(each.losses, each.along[0], each.along[1]).mean() for each in seeds]
    row |= _bounded(agreement).columns("loss_agreement", "loss_agreement_low", "loss_agreement_high")
    row |= _bounded([_forecast(each, probe) for each in seeds]).columns("forecast", "forecast_low", "forecast_high")
    row["loss_curvature"] = np.mean([curvature(each.losses, *each.along[:2], probe.step).mean() for each in seeds])
    row |= {"test_loss": np.mean([each.losses.mean() for each in seeds]), "test_accuracy": np.mean([s.accuracy for s in seeds])}
    row |= {"steps": study.plan.epochs * study.plan.steps_per_epoch(len(study.train))}
    return row | {"seeds": len(seeds), "directions": probe.num_directions}


def _bounded(values: Sequence[float]) -> Estimate:
    """Mean and interval over seeds of what lies in [-1, 1], and so does the interval."""
    found = over_seeds(values)
    return Estimate(found.value, *np.clip((found.low, found.high), -1, 1).tolist())


def _forecast(probed: Probed, probe: Probe) -> float:
    """How well a small step's changes of each test example rank those by the removals; NaN where nothing is removed.

    Of margins: a classifier's loss falls as its margin rises, so that ranks are the same but for what a loss rounds away.
    """
    if not probe.removed:
        return np.nan
    begun, done = probed.margins_along[2] - probed.margins, probed.margins_along[1] - probed.margins
    return float(forecast(begun, done).mean())


def _made_from(study: Study, settings: Metasmoothness) -> str:
    """What rows of several variants share, so that they stand beside each other: data, the plain plan, how it was probed."""
    plain = family_named(study.experiment.model).plan(study.task).as_dict()
    return row_identity(study.hashes, plain, settings.num_directions, settings.weight_step)


def _sentence(rows: pd.DataFrame) -> str:
    """What an experiment's rows mean for derivatives through its training."""
    removals = rows[rows["removed"] > 0]
    largest = predicted_removal(removals["removed"], removals["forecast"])
    smooth = rows.loc[rows["removed"] == 0, "agreement"].iloc[0]
    told = ", ".join(f"{row.removed}: {row.forecast:.2f}" for row in removals.itertuples())
    if largest == 0:
        what = "derivatives through the training do not predict what leaving out a single example does"
    else:
        tried = ", the most that was tried" if largest == removals["removed"].max() else ""
        count = f"{largest} examples" if largest > 1 else "one example"
        what = f"derivatives through the training predict what leaving out about {count} does{tried}"
    name, accuracy = rows["experiment"].iloc[0], rows["test_accuracy"].iloc[0]
    return f"{name}: metasmoothness {smooth:.2f}, test accuracy {accuracy:.3f}, {what} (rank correlation {told})"
