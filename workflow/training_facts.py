"""What only the code of models and tasks knows of an experiment: standard input lists experiments, standard output answers.

It imports torch, which takes seconds; studies.py starts it, and keeps its answers.
"""

import json
import runpy
import sys
from dataclasses import fields
from pathlib import Path

from tda.data.kinds import ImageKind
from tda.data.tasks import task_named
from tda.models.families import family_named
from tda.models.variants import family_of_variant
from tda.system.arguments import parse
from tda.system.errors import UserError

CHECKOUT = Path(__file__).parents[1]


def training_facts(model: str, task: str, num_per_class: int, variant: str, training: list[str]) -> dict:
    """Last epoch, training script, and whether seeds share work, of an experiment that is trained with these arguments.

    Raises UserError for an unknown model or task, and for a variant or arguments that do not fit.
    """
    family, known_task = family_named(model), task_named(task)
    script = runpy.run_path(str(CHECKOUT / family.training_script))
    settings = parse(script["SETTINGS"], script["__doc__"], training)
    if family.kind_of_choices is not None:
        names = [entry.name for entry in fields(family.kind_of_choices)]
        family = family.with_choices(family.kind_of_choices(**{name: getattr(settings, name) for name in names}))
    plan = family_of_variant(family, known_task, variant).plan(known_task)
    shares_work = family.fine_tuned is not None or not isinstance(known_task.kind, ImageKind)
    return {"last_epoch": plan.kept_epochs[-1], "training_script": family.training_script, "shares_work": shares_work}


if __name__ == "__main__":
    try:
        json.dump([training_facts(**asked) for asked in json.load(sys.stdin)], sys.stdout)
    except UserError as error:
        sys.exit(str(error))
