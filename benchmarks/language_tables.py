"""Tables of what language models cost: against other libraries, and a token."""

from collections.abc import Callable

_TITLES = {"trak": "TRAK", "inner": "inner products of gradients", "ekfac": "EK-FAC, empirical Fisher matrix"}


def language_rivals(content: dict, origin: str, table: Callable, number: Callable, spread: Callable) -> str:
    """TRAK, inner products and EK-FAC of a GPT-2 by this project and its rivals."""
    rows, failed = [], []
    for key, title in ((key, title) for key, title in _TITLES.items() if key in content):
        for row in content[key]["rows"]:
            note = f" ({row['note']}, scaled)" if "note" in row else ""
            numbers = [number(row["seconds"]), spread(row), number(row["peak_mib"]), number(row["ratio"], "x")]
            agreement = ["", "", ""]
            if "correlation" in row:
                agreement = [f"{row['relative_difference']:.1e}", f"{row['correlation']:.4f}", f"{row['rank_correlation']:.4f}"]
            rows.append([title, row["contender"] + note, *numbers, *agreement])
        failed += [f"- {title}, {row['contender']}: {row['failed']}" for row in content[key]["failed"]]
    header = ["work", "contender", "seconds", "min to max (runs)", "peak MiB", "ratio"]
    header += ["relative difference", "correlation", "rank correlation"]
    size = f"{content['attributed_parameters']:,} parameters are attributed to."
    rest = ["What did not run:\n\n" + "\n".join(failed)] if failed else []
    return "\n\n".join([f"{origin} {size}", table(header, rows), *rest])


language_rivals_4x256 = language_rivals_12x768 = language_rivals


def token_costs(content: dict, origin: str, table: Callable, number: Callable, spread: Callable) -> str:
    """What a token costs at a few sizes, the fit, and what it makes of a larger model."""
    rows = [
        [f"{row['layers']} x {row['width']}", f"{row['parameters'] / 1e6:,.1f}", *(number(1e3 * row[key]) for key in _PARTS)]
        + [number(row["gflop_per_token"]), f"{row['share_of_peak']:.0%}"]
        for row in content["sizes"]
    ]
    header = ["layers x width", "million parameters", *(f"{title}, ms" for title in _PARTS.values())]
    header += ["GFLOP of forward and backward", "of the fastest matrix product"]
    projected = [
        [row["what"], number(row["tokens_per_second"]), number(row["hours_per_100_million_tokens"])]
        for row in content["projection"]
    ]
    peak = f"The machine multiplies float32 matrices at {content['flops_per_second'] / 1e9:.0f} GFLOP/s."
    measured = table(header, rows)
    return "\n\n".join(
        [origin, peak, measured, table(["projected", "tokens a second", "hours for 100 million tokens"], projected)]
    )


_PARTS = {
    "forward": "forward",
    "forward_backward": "forward and backward",
    "projected": "projected gradients",
    "adapters": "of adapters",
}
