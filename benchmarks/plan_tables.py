"""The documents' tables of training plans: the options of a variant, and how smooth trainings are."""

from pathlib import Path

import pandas as pd


def options_table() -> pd.DataFrame:
    """A row an option of a variant, in the order in which they stand in a name: what it does, for which models."""
    from tda.data.tasks import task_named
    from tda.experiments.variant_names import OPTIONS
    from tda.models.families import FAMILIES
    from tda.models.variants import family_of_variant
    from tda.system.errors import UserError

    def takes(name: str, variant: str) -> bool:
        try:
            family_of_variant(FAMILIES[name], task_named("digits3"), variant)
        except UserError:
            return False
        return True

    rows = []
    for word, option in OPTIONS.items():
        number = {None: "", int: "7", float: "0.5"}[option.kind]
        variant = f"{word}{number}" + ("_rate0.5" if word == "momentum" else "")
        names = [name for name in FAMILIES if takes(name, variant)]
        written = f"`{word}`" if option.kind is None else f"`{word}<number>`"
        models = "all" if len(names) == len(FAMILIES) else ", ".join(f"`{name}`" for name in names)
        rows.append({"option": written, "what it does": option.meaning, "models": models})
    return pd.DataFrame(rows)


def smoothness_table(reference: Path) -> pd.DataFrame:
    """A row an experiment or variant: metasmoothness, how far a small step tells removals, and what the models are worth."""
    rows = []
    for path in sorted(reference.glob("*/metasmoothness.csv"), key=lambda path: _order(path.parent.name)):
        for name, found in pd.read_csv(path).groupby("experiment", sort=False):
            along, removals = found[found["removed"] == 0].iloc[0], found[found["removed"] > 0]
            told = (f"{row.removed}: {_interval(row, 'forecast')}" for row in removals.itertuples())
            rows.append(
                {
                    "experiment": name,
                    "metasmoothness": _interval(along, "agreement"),
                    "of the test losses": _interval(along, "loss_agreement"),
                    "rank correlation with removals of so many": ", ".join(told),
                    "test loss": f"{along['test_loss']:.3f}",
                    "accuracy": f"{along['test_accuracy']:.3f}",
                    "steps": along["steps"],
                    "seeds": along["seeds"],
                }
            )
    return pd.DataFrame(rows)


def _interval(row: object, name: str) -> str:
    value, low, high = (getattr(row, column) for column in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if low == low else f"{value:.2f}"


def _order(name: str) -> tuple:
    order = ["cnn_digits3_10pc", "cnn_mnist3_10pc", "cnn_mnist3_50pc", "cnn_cifar10_10pc"]
    return (order.index(name) if name in order else len(order), name)
