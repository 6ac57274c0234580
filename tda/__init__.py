"""Training data attribution whose trustworthiness is measured.

What is meant to be used from outside is named here; it is imported when it is asked for, so that `import tda` costs nothing.
"""

from importlib import import_module

_PUBLIC = {
    "Experiment": "tda.experiments.folders",
    "Study": "tda.training.study",
    "open_study": "tda.training.study",
    "Member": "tda.training.members",
    "load_members": "tda.training.members",
    "Task": "tda.data.tasks",
    "ImageKind": "tda.data.kinds",
    "TextKind": "tda.data.kinds",
    "ImageTextKind": "tda.data.kinds",
    "Pool": "tda.data.pools",
    "Split": "tda.data.splits",
    "Classification": "tda.gradients.objectives",
    "NextToken": "tda.gradients.objectives",
    "gradient_kernel": "tda.gradients.gradient_kernel",
    "plan_gradients": "tda.gradients.gradient_plan",
    "Projection": "tda.gradients.projections",
    "Scores": "tda.scores.score_files",
    "load_scores": "tda.scores.score_files",
    "pair_statistics": "tda.statistics.pair_statistics",
    "Attribution": "tda.methods.registry",
    "register": "tda.methods.registry",
    "per_member": "tda.methods.registry",
    "TRAKer": "tda.trak",
    "UserError": "tda.system.errors",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
