"""Step 5: which part of a training's randomness the spread of a method's scores comes from, and what p-values make of it."""

from functools import partial

import numpy as np
import pandas as pd

from tda.experiments.manifest import chosen_experiment
from tda.figures.saving import save_figure
from tda.figures.variance import draw_variance
from tda.methods.catalogue import chosen_entries
from tda.methods.registry import Method, load_method
from tda.scores.tables import add_to_table, row_identity
from tda.settings import VarianceComponents
from tda.settings.of_experiment import check_counts
from tda.statistics.variance_components import SOURCES, shares
from tda.statistics.varied_sources import VARIED, p_values_where
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.crossed_runs import CrossedRuns, Scorer
from tda.training.study import Study, open_study

_KEYS = (("method", "checkpoints", "weight"), ("method", "varied"))
"""What tells rows of the two tables apart."""
WEIGHTS = {"pair": True, "variance": False}
"""How pairs weigh in a share: all alike, or by how much they vary; and whether they are scaled for it."""


def main(settings: VarianceComponents) -> str:
    """Train and score the missing runs, write both tables and the figure; returns the closing line and two sentences.

    Raises UserError for unusable settings, unknown methods, ones that need more than a run's checkpoints, and missing data.
    """
    prepare_process()
    check_counts(settings, "num_checkpoints")
    methods = _methods(settings)
    study = open_study(chosen_experiment(settings), settings.device)
    design = _design(study, settings)
    for method, chosen in methods:
        method.check(study, design.starts, chosen)
    folder = study.results.path
    paths = [folder / "variance_components.csv", folder / "variance_p_values.csv"]
    with study.step("variance components", vars(settings)) as record:
        written = 0
        for method, chosen in methods:
            written += design.fill(method.name, chosen, partial(_scores, method, chosen), settings.force)
            told = _told(design, method, chosen, settings.num_checkpoints)
            made_from = _made_from(design, settings.num_checkpoints)
            tables = [
                add_to_table(path, pd.DataFrame(rows).assign(made_from=made_from), keys, "made_from")
                for path, rows, keys in zip(paths, told, _KEYS, strict=True)
            ]
        record.keep_earlier = not written
        save_figure(draw_variance(*tables), folder / "variance_components")
        record.files = [*paths, folder / "variance_components.png", folder / "variance_components.pdf"]
    names = [method.name for method, _ in methods]
    sentences = [_sentence(tables[0], tables[1], name) for name in names]
    closing = f"wrote variance_components.csv, .png and .pdf and variance_p_values.csv of {', '.join(names)}, in {folder}"
    return "; ".join([closing, *sentences])


def _methods(settings: VarianceComponents) -> list[tuple[Method, dict]]:
    """The chosen methods with all of their settings; raises UserError for unknown ones, and for those that read other files."""
    methods = []
    for name, entry in chosen_entries(tuple(settings.methods)).items():
        if entry.description.needs:
            raise UserError(f"method {name} cannot score crossed runs: it needs {entry.description.needs}; choose others")
        method = load_method(name)
        methods.append((method, method.settings_with(settings.methods.get(name, {}))))
    return methods


def _design(study: Study, settings: VarianceComponents) -> CrossedRuns:
    for name in ("num_starts", "num_orders"):
        if not 2 <= getattr(settings, name) <= len(study.seeds):
            known = f"2 to {len(study.seeds)}, the seeds of random_seeds.pt"
            raise UserError(f"--{name} {getattr(settings, name)} is out of range; choose {known}")
    study.last_epochs(settings.num_checkpoints)
    if len(study.plan.kept_epochs) < 2:
        raise UserError(f"{study.experiment.name} keeps one checkpoint a seed; the share of the checkpoint needs two or more")
    return CrossedRuns(study, range(settings.num_starts), range(settings.num_orders))


def _scores(method: Method, chosen: dict, *run: object) -> Scorer:
    return (found.scores for found in method.score(*run, chosen))


def _told(design: CrossedRuns, method: Method, chosen: dict, num_checkpoints: int) -> tuple[list[dict], list[dict]]:
    """A method's rows of both tables."""
    scores = design.load(method.name, chosen, "run_variance_components.py")
    scores = scores.reshape(*scores.shape[:3], -1)
    of_components = []
    for weight, alike in WEIGHTS.items():
        for averaged in (False, True):
            row = {"method": method.name, "checkpoints": scores.shape[2] if averaged else 1, "weight": weight}
            of_components.append(row | shares(scores, alike, averaged).columns() | _counts(scores))
    runs = scores[:, :, -num_checkpoints:].mean(axis=2, dtype=np.float64)
    of_p_values = [{"method": method.name, "varied": varied} | p_values_where(runs, varied) for varied in VARIED]
    return of_components, [row | {"checkpoints": num_checkpoints} for row in of_p_values]


def _counts(scores: np.ndarray) -> dict[str, int]:
    return dict(zip(("starts", "orders", "kept_checkpoints", "pairs"), scores.shape, strict=True))


def _made_from(design: CrossedRuns, num_checkpoints: int) -> str:
    """What the rows of several methods share, so that they stand beside each other: data, plan, runs, averaged checkpoints."""
    study = design.study
    made_from = study.plan.as_dict() | study.family.origin(study.task)
    seeds = [[study.seed(seed_id) for seed_id in ids] for ids in (design.starts, design.orders)]
    return row_identity(study.hashes, sorted(made_from.items()), seeds, num_checkpoints)


def _sentence(components: pd.DataFrame, p_values: pd.DataFrame, name: str) -> str:
    """What a method's rows mean, in two sentences."""
    own = components[(components["method"] == name) & (components["weight"] == "pair")]
    first = own[own["checkpoints"] == 1].iloc[0]
    parts = ", ".join(f"{source} {first[source]:z.0%}" for source in SOURCES)
    mean = p_values[p_values["method"] == name].set_index("varied")["mean_p_value"]
    return (
        f"{name}: of the variance of one checkpoint's score come from {parts}. Its mean p-value over "
        f"{int(p_values['runs'].iloc[0])} runs is {mean['both']:.2f} where both differ, {mean['initialisation']:.2f} where "
        f"initialisations alone do and {mean['order']:.2f} where orders alone do"
    )
