"""The documents' tables of where the spread of scores comes from, and of how many seeds a verdict needs."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tda.methods.catalogue import method_title

SOURCES = {
    "initialisation": "initialisation",
    "order": "order of batches",
    "combination": "their combination",
    "checkpoint": "checkpoint",
}
VARIED = {"both": "both differ", "initialisation": "initialisations alone", "order": "orders alone"}


def shares_table(reference: Path) -> pd.DataFrame:
    """A row an experiment and method: shares of a pair's variance with intervals, for one checkpoint and the mean of all."""
    rows = []
    for name, found in _experiments(reference, "variance_components*.csv"):
        for row in found[found["weight"] == "pair"].itertuples():
            told = {title: _interval(row, source) for source, title in SOURCES.items()}
            of = "one checkpoint" if row.checkpoints == 1 else f"mean of {row.checkpoints}"
            rows.append({"experiment": name, "method": method_title(row.method), "score of": of} | told)
            rows[-1] |= {"added up": _interval(row, "added_up"), "runs": f"{row.starts} x {row.orders}"}
    return pd.DataFrame(rows)


def p_values_table(reference: Path) -> pd.DataFrame:
    """A row an experiment and method: mean p and share of p below 0.05 where both sources of chance differ, or one alone."""
    rows = []
    for name, found in _experiments(reference, "variance_p_values*.csv"):
        for method, own in found.groupby("method", sort=False):
            by_varied = own.set_index("varied")
            told = {
                title: f"{by_varied.loc[varied, 'mean_p_value']:.3f} / {by_varied.loc[varied, 'share_p_below_level']:.1%}"
                for varied, title in VARIED.items()
            }
            runs = int(by_varied["runs"].iloc[0])
            rows.append({"experiment": name, "method": method_title(method)} | told | {"runs of a sample": runs})
    return pd.DataFrame(rows)


def seeds_needed_table(reference: Path) -> pd.DataFrame:
    """What so many seeds find of the pairs that the t-test on all seeds calls reliable (q), and how many others they call so.

    A row a method by the t-test, and a row a test, the mean over methods.
    """
    rows = []
    for name, found in _experiments(reference, "seeds_needed.csv"):
        own = found[found["verdict"] == "q"]
        all_seeds, by_t_test = int(own["all_seeds"].iloc[0]), own[own["test"] == "t_test"]
        groups = [(method_title(method), "t test", rows_of) for method, rows_of in by_t_test.groupby("method", sort=False)]
        groups += [("mean", test.replace("_", " "), rows_of) for test, rows_of in own.groupby("test", sort=False)]
        for method, test, rows_of in groups:
            told = rows_of.groupby("seeds")[["found", "false"]].mean()
            cells = {f"{count} seeds": _found(row) for count, row in told.iterrows() if count < all_seeds or test != "t test"}
            by_all = f"{rows_of['reliable_by_all'].mean():.1%}"
            rows.append({"experiment": name, "method": method, "test": test} | cells | {f"reliable by {all_seeds}": by_all})
    return pd.DataFrame(rows).fillna("")


def errors_table(reference: Path) -> pd.DataFrame:
    """A row a test and law of noise: type-I error at 0.05 for each number of seeds, by simulation."""
    for _, found in _experiments(reference, "seed_test_errors.csv"):
        null = found[found["effect"] == 0]
        table = null.pivot(index=["test", "law"], columns="seeds", values="called_reliable").reset_index()
        table["test"] = table["test"].str.replace("_", " ")
        return table.rename(columns=lambda column: f"{column} seeds" if isinstance(column, int) else column).assign(
            **{f"{count} seeds": table[count].map("{:.3f}".format) for count in sorted(set(null["seeds"]))}
        )
    return pd.DataFrame()


def _experiments(reference: Path, files: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each experiment's tables; one of another design, whose rows do not stand in the first, has a file of its own."""
    for path in sorted(reference.glob(f"*/{files}")):
        yield path.parent.name, pd.read_csv(path)


def _found(row: pd.Series) -> str:
    return f"{row['found']:.0%} / {row['false']:.1%}" if row.notna().all() else ""


def _interval(row: object, name: str) -> str:
    value, low, high = (getattr(row, column) for column in (name, f"{name}_low", f"{name}_high"))
    # Adding 0 makes zeros of negative ones.
    value, low, high = (round(number, 2) + 0.0 for number in (value, low, high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if low == low else f"{value:.2f}"
