"""Choose a method's damping by subsets that judge nothing: the LDS of each candidate on retrainings of "fitting" subsets."""

import pandas as pd

from tda.experiments.manifest import chosen_experiment
from tda.methods.registry import load_method
from tda.scores.tables import write_table
from tda.settings import DampingChoice
from tda.statistics.linear_datamodeling_score import lds, lds_of_each, predictions
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.members import load_members
from tda.training.retrainings import RetrainingStore
from tda.training.study import open_study
from tda.training.subset_draws import SubsetDraw, load_subset_outputs


def main(settings: DampingChoice) -> str:
    """Write damping_choice_<method>.csv, a row for each candidate; returns the closing line, which names the best.

    Raises UserError for unusable settings, or if the member or the retrainings are missing.
    """
    prepare_process()
    method = load_method(settings.method)
    if not settings.candidates:
        raise UserError("--candidates names no value to compare; give numbers with commas, such as 0.1,1")
    candidates = {value: method.settings_with({settings.setting: value}) for value in settings.candidates}
    study = open_study(chosen_experiment(settings), settings.device)
    draw = SubsetDraw("fitting", settings.alpha, settings.num_subsets, settings.num_retrainings)
    outputs = load_subset_outputs(RetrainingStore(study), draw)
    masks, margins = outputs.masks.numpy(), outputs.margins.numpy()
    (seed_id,) = study.seed_ids(settings.seed_id)
    rows = []
    with study.step(f"damping of {method.name}", vars(settings)):
        members = load_members(study, seed_id, study.plan.kept_epochs[-1:])
        train, test = (members[0].study.inputs(split) for split in (study.train, study.test))
        for value, chosen in candidates.items():
            (found,) = method.score(members, train, test, chosen)
            predicted = predictions(masks, found.scores.double().cpu().numpy())
            mean = lds([predicted], margins.mean(axis=0))
            single = sum(lds_of_each(predicted, one).mean() for one in margins) / len(margins)
            judged = mean.columns("lds") | {"lds_single_retraining": single}
            rows.append({"method": method.name, "setting": settings.setting, "value": value, "seed_id": seed_id} | judged)
        table = pd.DataFrame(rows)
        path = study.results.path / f"damping_choice_{method.name}.csv"
        write_table(path, table)
    best = table.sort_values("lds").iloc[-1]
    found = f"{best['lds']:.3f}, with {settings.setting} {best['value']:g}"
    return f"wrote {path.name}, in {path.parent}; highest LDS on fitting subsets: {found}"
