"""Step 6: retrain on random subsets of the training set: what attributions are judged by, and fitted to.

Two disjoint families of subsets are drawn, by purpose: "evaluation" subsets judge; "fitting" subsets are what
datamodels, empirical influence and the choice of damping may see.
"""

from dataclasses import replace

from tda.experiments.manifest import chosen_experiment
from tda.settings import SubsetRetraining
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, repeated_runs, share_kept


def main(settings: SubsetRetraining) -> str:
    """Do the retrainings that are missing; returns the closing line. Raises UserError for unusable settings or files."""
    prepare_process()
    alpha = share_kept(settings.alpha, settings.left_out)
    draw = SubsetDraw(settings.purpose, alpha, settings.num_subsets, settings.num_retrainings)
    if not 0 <= settings.first_subset < settings.num_subsets:
        raise UserError(f"--first_subset {settings.first_subset} must lie in 0 to {settings.num_subsets - 1}")
    study = open_study(chosen_experiment(settings), settings.device)
    if settings.same_run:
        study, seeds = repeated_runs(study, settings.num_retrainings)
        draw = replace(draw, seeds=seeds)
    store = RetrainingStore(study)
    retrainings = draw.whole_runs(len(study.train)) + draw.retrainings(len(study.train), settings.first_subset)
    kind, share = f"{settings.purpose} subset retraining", _share(settings)
    with study.step(kind, vars(settings), share=share) as record:
        written = store.fill(retrainings, f"{kind} {share}".rstrip(), settings.force)
        record.keep_earlier = written == 0
    folder = store.paths(retrainings[:1])[0].parent
    return f"retrained {written} models, kept {len(retrainings) - written} that were finished, in {folder}"


def _share(settings: SubsetRetraining) -> str:
    """What sets a call apart from others of its kind: the part of the subsets, what is left out, and of which runs."""
    words = [f"from {settings.first_subset}"] if settings.first_subset else []
    words += [f"{settings.left_out:g} left out"] if settings.left_out is not None else []
    return " ".join([*words, "of the same run"] if settings.same_run else words)
