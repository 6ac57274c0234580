"""The documents' tables of which attribution predicts retraining of a language model, and finds its wrong labels.

From the CSVs under results/reference/.
"""

from pathlib import Path

import pandas as pd

from tda.methods.catalogue import method_title

FAMILY = "bert_"
PAIRS = "clip_"
"""How images with texts are called, whose tables are on a page of their own (pair_removal_tables.py)."""
REFERENCES = {"random": "random scores", "retraining": "retraining", "exact_prediction": "an exact prediction"}
"""Rows of lds.csv that are no methods, and what the documents call them."""


def lds_table(reference: Path) -> pd.DataFrame:
    """LDS of one member, its share of what an exact prediction would reach, LDS of the largest ensemble, and reliability."""
    rows = []
    for path in sorted(reference.glob(f"{FAMILY}*/lds.csv")):
        found = pd.read_csv(path)
        # Methods that only one member was scored by.
        for single in sorted(path.parent.glob("lds_one_run*.csv")):
            others = pd.read_csv(single)
            found = pd.concat([found, others[~others["method"].isin(set(found["method"]))]])
        ceiling = found.loc[found["method"] == "exact_prediction", "lds"]
        summary = _summary(path.with_name("summary.csv"))
        sizes = {method: of_method.set_index("members") for method, of_method in found.groupby("method", sort=False)}
        best_first = sorted(sizes, key=lambda method: -sizes[method]["lds"].iloc[0])
        for method in [*(m for m in best_first if m not in REFERENCES), *(m for m in REFERENCES if m in sizes)]:
            of_method = sizes[method]
            first, last = of_method.iloc[0], of_method.iloc[-1]
            rows.append(
                {
                    "experiment": path.parent.name,
                    "method": REFERENCES.get(method) or method_title(method),
                    "LDS, one run": _cell(first),
                    "of an exact one's": f"{first['lds'] / ceiling.iloc[0]:.2f}" if len(ceiling) else "",
                    "LDS, mean of (runs)": f"{_cell(last)} ({of_method.index[-1]})" if len(of_method) > 1 else "",
                    "mean p": summary["mean_p_value"].get(method, ""),
                    "q < 0.05": summary["share_q_below_level"].get(method, ""),
                }
            )
    return pd.DataFrame(rows)


def mislabel_table(reference: Path) -> pd.DataFrame:
    """Area under the curve of self-influence as a detector of flipped labels: mean and range over seeds."""
    rows = []
    for path in sorted(reference.glob(f"{FAMILY}*/mislabel_detection.csv")):
        for method, areas in pd.read_csv(path).groupby("method")["area_under_curve"]:
            found = {"experiment": path.parent.name, "method": method_title(method), "mean": f"{areas.mean():.3f}"}
            rows.append(found | {"smallest": f"{areas.min():.3f}", "largest": f"{areas.max():.3f}", "seeds": len(areas)})
    return pd.DataFrame(rows)


def _cell(row: pd.Series) -> str:
    return f"{row['lds']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _summary(path: Path) -> dict[str, dict[str, str]]:
    """Mean p-value and share of reliable pairs by method, over the most checkpoints."""
    if not path.exists():
        return {"mean_p_value": {}, "share_q_below_level": {}}
    table = pd.read_csv(path)
    table = table[table["checkpoints"] == table["checkpoints"].max()].set_index("method")
    shares = table["share_q_below_level"].map("{:.1%}".format).to_dict()
    return {"mean_p_value": table["mean_p_value"].map("{:.3f}".format).to_dict(), "share_q_below_level": shares}
