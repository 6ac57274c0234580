"""How many seeds a verdict needs, and how often tests err, as a picture."""

import pandas as pd
from matplotlib.figure import Figure

from tda.figures.style import lines_of, styled
from tda.methods.catalogue import method_title
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL

_TESTS = {
    "t_test": "t-test",
    "signed_rank": "signed rank",
    "sign_flip": "sign flips",
    "bayesian_bootstrap": "Bayesian bootstrap",
}
_LAWS = {
    "normal": "normal",
    "student_3": "Student, 3 d.o.f.",
    "contaminated": "contaminated",
    "cauchy": "Cauchy",
    "skewed": "skewed",
}


@styled()
def draw_seeds_needed(table: pd.DataFrame, errors: pd.DataFrame) -> Figure:
    """Left: pairs that few seeds find of those that all find, by the t-test, a curve for each method, with the middle 95 % of
    the draws. Right: how often each test calls a pair reliable whose mean is 0, a panel for each law of noise.

    table: seeds_needed.csv; errors: seed_test_errors.csv.
    """
    figure = Figure(figsize=(11.5, 3.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(_LAWS), width_ratios=[2.2] + [1] * len(_LAWS))
    own = table[(table["test"] == "t_test") & (table["verdict"] == "q")]
    for method, style in lines_of(list(dict.fromkeys(own["method"]))).items():
        rows = own[own["method"] == method]
        first.plot(rows["seeds"], rows["found"], label=method_title(method), markersize=3.5, **style)
        first.fill_between(rows["seeds"], rows["found_low"], rows["found_high"], color=style["color"], alpha=0.15, linewidth=0)
    first.set(xscale="log", ylim=(-0.03, 1.03), xlabel="seeds", ylabel="share found of what all seeds find (q < 0.05)")
    first.legend(fontsize=6.5)
    null = errors[errors["effect"] == 0]
    for panel, (law, title) in zip(others, _LAWS.items(), strict=True):
        for test, style in lines_of(list(_TESTS)).items():
            rows = null[(null["law"] == law) & (null["test"] == test)]
            panel.plot(rows["seeds"], rows["called_reliable"], label=_TESTS[test], markersize=3.5, **style)
        panel.axhline(SIGNIFICANCE_LEVEL, color="grey", linewidth=0.8, linestyle=":")
        panel.set(title=title, xscale="log", xlabel="seeds", ylim=(0, 0.32))
        panel.tick_params(labelleft=panel is others[0])
    others[0].set_ylabel("type-I error at 0.05")
    handles, labels = others[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=4)
    for panel in (first, *others):
        counts = sorted(errors["seeds"].unique())
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
    return figure
