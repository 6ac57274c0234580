"""The documents' tables of networks that learn from all of MNIST, beside networks that learn from a few images."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tda.methods.catalogue import method_title

# Experiments on the same ten digits, few images first; those of the second row are scored on the same 100 x 10 pairs.
ALL_PAIRS = ("cnn_mnist1000_50pc_keep1", "cnn_mnist1000_500pc_keep1", "cnn_mnist1000_whole_7000pc_epochs3_keep1")
FEW_PAIRS = ("cnn_mnist10_10pc", "cnn_mnist10_whole_10pc_epochs3")


def is_of_whole_study(name: str) -> bool:
    """Whether an experiment's tables stand on their own, apart from those of the small studies."""
    return name in (*ALL_PAIRS, *FEW_PAIRS)


def all_pairs_table(reference: Path) -> pd.DataFrame:
    """A row a method: reliability by the last checkpoint, networks that learn from ever more images judged on 1,000 others."""
    return _by_method(reference, ALL_PAIRS, {})


def few_pairs_table(reference: Path) -> pd.DataFrame:
    """A row a method: reliability by the last checkpoint of 100 x 10 pairs, and agreement with leave-one-out."""
    cells: dict[tuple[str, str], str] = {}
    for name in FEW_PAIRS:
        path = reference / name / "correlation_spearman_mean.csv"
        matrix = pd.read_csv(path, index_col=0)
        cells |= {(name, method): f"{matrix.loc[method, 'loo']:.2f}" for method in matrix.index if method != "loo"}
    return _by_method(reference, FEW_PAIRS, cells)


def _by_method(reference: Path, names: tuple[str, ...], with_loo: dict[tuple[str, str], str]) -> pd.DataFrame:
    rows: dict[str, dict[str, str]] = {}
    for name, summary, single in _experiments(reference, names):
        for row in summary[summary.checkpoints == 1].itertuples():
            found = f"{row.mean_p_value:.3f} / {single[row.method]:.2f} / {row.share_q_below_level:.1%}"
            own = rows.setdefault(row.method, {"method": method_title(row.method)})
            own[name] = " / ".join([found, *filter(None, [with_loo.get((name, row.method))])])
    return pd.DataFrame(rows.values())[["method", *names]].fillna("")


def _experiments(reference: Path, names: tuple[str, ...]) -> Iterator[tuple[str, pd.DataFrame, pd.Series]]:
    for name in names:
        single = pd.read_csv(reference / name / "mean_single_draw_p_values.csv", index_col="checkpoints").loc[1]
        yield name, pd.read_csv(reference / name / "summary.csv"), single
