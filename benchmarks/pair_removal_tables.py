"""The documents' tables of images with texts, from the CSVs under results/reference/: retrieval, LDS, and pairs left out."""

from pathlib import Path

import pandas as pd
from fact_tables import interval
from language_study_tables import PAIRS, REFERENCES

from tda.methods.catalogue import method_title

_COUNTS = (1, 5, 10)


def retrieval_table(reference: Path) -> pd.DataFrame:
    """Recall of the own text by an image, and of the own image by a text: the mean over seeds with its interval."""
    rows = []
    for path in sorted(reference.glob("*/retrieval.csv")):
        table = pd.read_csv(path, dtype={"seed_id": str}).set_index("seed_id")
        seeds = len(table) - 3
        for side, words in (("text", "the caption of a photograph"), ("image", "the photograph of a caption")):
            row = {"experiment": path.parent.name, "seeds": seeds, "found": words, "among": int(table.loc["mean", "pairs"])}
            for count in _COUNTS:
                value, low, high = (table.loc[end, f"{side}_recall_{count}"] for end in ("mean", "low", "high"))
                row[f"recall@{count}"] = f"{value:.3f} [{low:.3f}, {high:.3f}]"
            row["median rank"] = f"{table.loc['mean', f'{side}_median_rank']:.1f}"
            row["recall@10 by chance"] = f"{table.loc['mean', 'chance_recall_10']:.3f}"
            rows.append(row)
    return pd.DataFrame(rows)


def removal_table(reference: Path) -> pd.DataFrame:
    """The fall of a target's cosine and of 1 / rank where a method's pairs are left out, beside random and similar ones."""
    rows = []
    for path in sorted(reference.glob("*/pair_removal.csv")):
        table = pd.read_csv(path).sort_values(["removed", "cosine_fall"], ascending=[True, False], kind="stable")
        for row in table.to_dict("records"):
            name = "random pairs" if row["method"] == "random" else method_title(row["method"])
            rows.append(
                {
                    "left out": f"{name} ({row['removed']})",
                    "targets x seeds": f"{row['targets']} x {row['seeds']}",
                    "fall of the cosine": _fine(row, "cosine_fall"),
                    "more than random": _fine(row, "more_than_random"),
                    "more than like images": _fine(row, "more_than_image_similarity"),
                    "more than like captions": _fine(row, "more_than_caption_similarity"),
                    "more than like pairs": _fine(row, "more_than_repsim"),
                    "fall of 1 / rank": interval(row, "reciprocal_rank_fall"),
                    "median rank before, after": f"{row['median_rank_before']:.1f}, {row['median_rank_after']:.1f}",
                    "fall of other pairs": f"{row['cosine_fall_of_others']:.4f}",
                }
            )
    return pd.DataFrame(rows)


def lds_table(reference: Path) -> pd.DataFrame:
    """LDS of one member and of the largest ensemble against the mean of a subset's retrainings, and against a single one.

    The last rows are what retrainings say of each other, half of a subset's against the other half and one against another,
    and what an exact prediction would reach.
    """
    rows = []
    for path in sorted(reference.glob(f"{PAIRS}*/lds.csv")):
        found, summary = pd.read_csv(path), pd.read_csv(path.with_name("summary.csv"))
        reliable = summary.drop_duplicates("method", keep="last").set_index("method")["share_q_below_level"]
        last = found.drop_duplicates("method", keep="last").set_index("method")
        methods = last[last["members"] > 0].sort_values("lds", ascending=False).index
        titles = {method: method_title(method) for method in methods} | REFERENCES
        for method, title in titles.items():
            first = found[found["method"] == method].iloc[0]
            whole, is_method = last.loc[method], method in methods
            rows.append(
                {
                    "experiment": path.parent.name,
                    "method": title,
                    "LDS, one run": _fine(first.to_dict() | {"lds_low": first["low"], "lds_high": first["high"]}, "lds")
                    if is_method
                    else "",
                    "LDS, mean of (runs)": _fine(whole.to_dict() | {"lds_low": whole["low"], "lds_high": whole["high"]}, "lds")
                    + (f" ({int(whole['members'])})" if is_method else ""),
                    "against one retraining": f"{whole['lds_single_retraining']:.3f}",
                    "q < 0.05": f"{reliable[method]:.1%}" if method in reliable else "",
                }
            )
    return pd.DataFrame(rows)


def _fine(row: dict, name: str) -> str:
    """A value with its interval to three digits, empty where there is none."""
    if name not in row or pd.isna(row[name]):
        return ""
    value, low, high = (f"{row[f'{name}{end}']:.3f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
