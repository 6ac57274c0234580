"""Accuracy, or another metric, against the share of the training set that is removed or relabelled, with bands."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from tda.figures.style import styled
from tda.methods.catalogue import method_title

_TITLES = {
    "accuracy": "accuracy",
    "worst_group_accuracy": "accuracy of the worst group",
    "target_accuracy": "accuracy of what matters",
    "loss": "mean loss in nats",
    "calibration_error": "calibration error",
}
_ACTIONS = {"remove": "removed", "relabel": "given another label"}
_GREY = "0.45"
_MARKERS = "os^DvPX<>*hp"


@styled()
def draw_debiasing(table: DataFrame, metric: str) -> Figure:
    """A panel an action: means over seeds with 95 % intervals, of each selection, on the part that no choice has seen.

    table: as data_debiasing.csv, of one target. Random removal and training on all are grey.
    """
    actions = [action for action in _ACTIONS if (table["action"] == action).any()]
    figure = Figure(figsize=(1.8 + 5.2 * len(actions), 4.6), layout="constrained")
    panels = figure.subplots(1, len(actions), sharey=True, squeeze=False)[0]
    colours = {name: f"C{place}" for place, name in enumerate(_names(table))}
    for panel, action in zip(panels, actions, strict=True):
        _draw_reference(panel, table[table["removed"] == 0], metric)
        of_action = table[table["action"] == action].sort_values("removed", kind="stable")
        for (selection, method, groups), rows in of_action.groupby(["selection", "method", "groups"], sort=False):
            name = _name(selection, method, groups)
            _draw_curve(panel, rows, metric, name, colours.get(name))
        panel.set(xlabel=f"share of the training set {_ACTIONS[action]}", title=_ACTIONS[action])
    panels[0].set_ylabel(_TITLES[metric])
    entries = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), fontsize=8, frameon=False, loc="outside right center")
    return figure


def _names(table: DataFrame) -> list[str]:
    chosen = table[(table["removed"] > 0) & (table["selection"] != "random")]
    parts = chosen[["selection", "method", "groups"]].drop_duplicates()
    return [_name(*row) for row in parts.itertuples(index=False)]


def _name(selection: str, method: str, groups: str) -> str:
    words = [selection.replace("_", " ")]
    words += [method_title(method)] if method != "-" else []
    words += [f"({groups} groups)"] if groups not in ("-", "known") else []
    return ", ".join(words[:2]) + "".join(f" {word}" for word in words[2:])


def _draw_reference(panel: Axes, rows: DataFrame, metric: str) -> None:
    for row in rows.itertuples():
        value, low, high = (getattr(row, f"{metric}{end}") for end in ("", "_low", "_high"))
        panel.axhline(value, color=_GREY, linewidth=1, linestyle=":", label="nothing: all examples")
        panel.axhspan(low, high, color=_GREY, alpha=0.1, linewidth=0)


def _draw_curve(panel: Axes, rows: DataFrame, metric: str, name: str, colour: str | None) -> None:
    """A curve through the shares; numbers that are none, such as the significant ones, are markers with error bars."""
    is_share = rows["number"].str.endswith("%")
    shares, others = rows[is_share], rows[~is_share]
    style = {"color": colour or _GREY}
    marker = _MARKERS[int(colour[1:]) % len(_MARKERS)] if colour else "."
    if len(shares):
        line = "-" if colour else "--"
        panel.plot(shares["share"], shares[metric], line, marker=marker, markersize=4, linewidth=1.2, label=name, **style)
        panel.fill_between(shares["share"], shares[f"{metric}_low"], shares[f"{metric}_high"], alpha=0.1, linewidth=0, **style)
    if len(others) and (colour or not len(shares)):
        errors = [(others[metric] - others[f"{metric}_low"]).clip(0), (others[f"{metric}_high"] - others[metric]).clip(0)]
        label = None if len(shares) else name
        options = {"fmt": marker, "markersize": 5, "markerfacecolor": "white", "capsize": 2, "linewidth": 1}
        panel.errorbar(others["share"], others[metric], errors, label=label, **options, **style)
