"""The documents' tables of networks that learn from all of MNIST, beside networks that learn from a few of its images."""

from pathlib import Path

import pandas as pd

from tda.methods.catalogue import method_title

# Experiments on all ten digits, those that learn from few images first, by what their columns say.
ALL_PAIRS = {
    "500 images": "cnn_mnist1000_50pc_keep1",
    "60,000 images": "cnn_mnist1000_whole_7000pc_epochs3_keep1",
}
# Both are scored on the same 100 training images, of which the first learn alone, and 10 test images.
FEW_PAIRS = {"100 images": "cnn_mnist10_10pc", "60,000 images": "cnn_mnist10_whole_10pc_epochs1"}


def is_of_all_mnist(name: str) -> bool:
    """Whether an experiment's tables stand on their own, apart from those of the small studies."""
    return name in (*ALL_PAIRS.values(), *FEW_PAIRS.values())


def all_pairs_table(reference: Path) -> pd.DataFrame:
    """A row a method: how reliable the last checkpoint's scores of all training images and 1,000 test images are."""
    return _reliability(reference, ALL_PAIRS)


def few_pairs_table(reference: Path) -> pd.DataFrame:
    """A row a method: the same of 100 x 10 pairs, and rank correlation with leave-one-out by all kept checkpoints."""
    table = _reliability(reference, FEW_PAIRS)
    for title, name in FEW_PAIRS.items():
        with_loo = pd.read_csv(reference / name / "correlation_spearman_mean.csv", index_col=0)["loo"]
        by_title = {method_title(method): f"{value:.2f}" for method, value in with_loo.drop("loo").items()}
        table[f"with LOO, {title}"] = table["method"].map(by_title).fillna("")
    return table


def _reliability(reference: Path, names: dict[str, str]) -> pd.DataFrame:
    """A column an experiment, at one checkpoint; only methods that the last of them has.

    A cell: mean p / share with p < 0.05 / share with q < 0.05 / mean rank correlation between seeds.
    """
    rows: dict[str, dict[str, str]] = {}
    for title, name in names.items():
        summary = pd.read_csv(reference / name / "summary.csv")
        alike = pd.read_csv(reference / name / "seed_agreement.csv", index_col="method")["spearman_between_seeds"]
        for row in summary[summary.checkpoints == 1].itertuples():
            shares = f"{row.share_p_below_level:.1%} / {row.share_q_below_level:.1%}"
            own = rows.setdefault(row.method, {"method": method_title(row.method)})
            own[title] = f"{row.mean_p_value:.3f} / {shares} / {alike[row.method]:.2f}"
    kept = [method for method, own in rows.items() if title in own]
    order = sorted(kept, key=lambda method: (method != "loo", method))
    return pd.DataFrame([rows[method] for method in order])[["method", *names]].fillna("")
