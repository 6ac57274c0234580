"""Step 8: find training examples with a wrong label by self-influence: how much an example helps its own (wrong) label."""

from dataclasses import replace

import pandas as pd

from tda.debiasing.wrong_labels import flip_labels, self_influence
from tda.experiments.manifest import chosen_experiment
from tda.methods.registry import load_method
from tda.scores.tables import add_to_table, row_identity
from tda.settings import MislabelDetection
from tda.statistics.area_under_curve import area_under_curve
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.training.ensembles import members_in_memory
from tda.training.study import open_study


def main(settings: MislabelDetection) -> str:
    """Train members on data with flipped labels and write mislabel_detection.csv; returns the closing line.

    Raises UserError for unusable settings, unknown methods, and ones that need more than a member's checkpoint.
    """
    prepare_process()
    methods = [load_method(name) for name in settings.methods]
    if not methods:
        raise UserError("--methods names no method to judge; give some, with commas, such as grad_dot,trak")
    for method in methods:
        if method.needs:
            raise UserError(f"method {method.name} cannot look for changed labels: it needs {method.needs}; choose others")
    study = open_study(chosen_experiment(settings), settings.device)
    train, flipped = flip_labels(study.train, settings.share, len(study.task.classes))
    study = replace(study, train=train)
    rows, seed_ids = [], study.seed_ids(settings.seed_id, settings.num_seeds)
    with study.step("mislabel detection", vars(settings), {"train": train.fingerprint}, seed_ids) as record:
        inputs = study.inputs(train)
        for member in members_in_memory(study, seed_ids):
            for method in methods:
                scores = self_influence(method, member, inputs)
                area = area_under_curve(scores.double().cpu().numpy(), flipped.numpy())
                rows.append({"method": method.name, "seed_id": member.seed_id, "area_under_curve": area})
        path = study.results.path / "mislabel_detection.csv"
        # Other seeds and methods of the same flipped labels, trained in the same way, stay in the table.
        made_from = row_identity(train.fingerprint, study.plan.as_dict(), study.family.origin(study.task))
        table = pd.DataFrame(rows).assign(share=settings.share, made_from=made_from)
        table = add_to_table(path, table, ("method", "seed_id"), "made_from")
        record.files = [path]
    means = table.groupby("method")["area_under_curve"].mean()
    found = ", ".join(f"{name} {area:.3f}" for name, area in means.items())
    return f"wrote {path.name}, in {path.parent}; mean area under the curve: {found}"
