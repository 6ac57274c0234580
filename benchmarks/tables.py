"""Fill the tables of benchmarks/README.md, docs/robustness.md and docs/scale.md from benchmarks/results/*.json.

A pair of markers is `<!-- table NAME -->` and `<!-- end -->`; NAME is a function below, of language_tables.py or of
scale_tables.py, applied to the JSON file of the same name up to its first dot.
"""

import json
import re
from dataclasses import dataclass

import common
import language_tables
import scale_tables
import unrolling_tables
from common import CHECKOUT, RESULTS

PAGES = (RESULTS.parent / "README.md", CHECKOUT / "docs" / "robustness.md", CHECKOUT / "docs" / "scale.md")


@dataclass
class Settings:
    """Nothing to choose."""


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text}{unit}"


def _spread(row: dict) -> str:
    return f"{_number(row['min'])} to {_number(row['max'])} ({row['runs']})"


def _origin(content: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return f"`{content['command']}` on {content['device']}; {versions}."


def against_published(content: dict) -> str:
    """Each method against the plain algorithm, seconds for one checkpoint."""
    parts = [_origin(content)]
    for experiment, methods in content["experiments"].items():
        rows = []
        for method, found in methods.items():
            ours = found["rows"][-1]["seconds"]
            for row in found["rows"]:
                agreement = found.get("agreement", {}).values()
                error = max((entry["relative_error"] for entry in agreement), default=None)
                exact = [
                    f" ({e['against_float64']:.1e}, plain {e['plain_against_float64']:.1e})" for e in agreement if len(e) > 2
                ]
                last = row is found["rows"][-1]
                scaled = f"{row['note']}, " if "note" in row else ""
                rows.append(
                    [
                        method,
                        row["contender"],
                        _number(row["seconds"]),
                        _spread(row),
                        f"{scaled}x {_number(row['scaled_by'])}",
                        _number(row["peak_mib"]),
                        "" if last else _number(row["seconds"] / ours, "x"),
                        f"{error:.1e}{''.join(exact)}" if last and error is not None else "",
                    ]
                )
        header = [
            "method",
            "contender",
            "seconds",
            "min to max (runs)",
            "scaled by",
            "peak MiB",
            "slower",
            "relative difference (from float64)",
        ]
        parts.append(f"{experiment}, seconds for one checkpoint of one seed\n\n{_table(header, rows)}")
    return "\n\n".join(parts)


def kernel_floor(content: dict) -> str:
    """The kernel against one pass and against vmap."""
    rows = []
    for experiment, found in content["experiments"].items():
        kernel = found["rows"][0]["seconds"]
        for row in found["rows"]:
            rows.append([experiment, row["contender"], _number(row["seconds"]), _spread(row), _number(row["seconds"] / kernel)])
        errors = found["agreement_with_float64"]
        summary = f"kernel / floor **{found['ratio_to_floor']}**, error against float64 {errors['relative_error']:.1e}"
        rows.append([experiment, summary, "", "", ""])
    parts = [_origin(content), _table(["experiment", "contender", "seconds", "min to max (runs)", "in kernels"], rows)]
    if "large" in content:
        large = content["large"]
        parts.append(
            f"{large['contender']}: {_number(large['seconds'])} s, peak {_number(large['peak_mib'])} MiB "
            f"({_number(large['resident_before_mib'])} MiB of it before the kernel began), "
            f"relative error {large['relative_error']:.1e} on {large['entries']:,} random entries against float64 autograd."
        )
    return "\n\n".join(parts)


def against_libraries(content: dict) -> str:
    """captum, dattri and traker."""
    titles = {"grad_dot": "TracIn (Grad-Dot)", "trak": "TRAK", "influence": "influence functions"}
    qualities = {
        "relative_error": "relative error {:.1e}",
        "rank_correlation": "rank correlation with the exact {:.3f}",
        "relative_residual": "relative residual {:.1e}",
    }
    rows = []
    for key, title in titles.items():
        for row in content[key]["rows"]:
            quality = ", ".join(text.format(row[name]) for name, text in qualities.items() if name in row)
            note = f" ({row['note']}, scaled)" if "note" in row else ""
            numbers = [_number(row["seconds"]), _spread(row), _number(row["peak_mib"]), _number(row["ratio"], "x")]
            rows.append([title, row["contender"] + note, *numbers, quality])
    header = ["work", "contender", "seconds", "min to max (runs)", "peak MiB", "ratio", "agreement"]
    return f"{_origin(content)}\n\n{_table(header, rows)}"


def against_rivals(content: dict) -> str:
    """TracInCP and GAS against captum and dattri, EK-FAC against kronfluence."""
    titles = {
        "tracin": "TracInCP, five checkpoints",
        "gas": "GAS, five checkpoints",
        "ekfac_empirical": "EK-FAC, empirical Fisher matrix",
        "ekfac": "EK-FAC",
    }
    rows = []
    for key, title in titles.items():
        for row in content[key]["rows"]:
            numbers = [_number(row["seconds"]), _spread(row), _number(row["peak_mib"]), _number(row["ratio"], "x")]
            agreement = ["", ""]
            if "relative_difference" in row:
                agreement = [f"{row['relative_difference']:.1e}", f"{row['rank_correlation']:.4f}"]
            rows.append([title, row["contender"], *numbers, *agreement])
    header = [
        "work",
        "contender",
        "seconds",
        "min to max (runs)",
        "peak MiB",
        "ratio",
        "relative difference",
        "rank correlation",
    ]
    return f"{_origin(content)}\n\n{_table(header, rows)}"


def influence_solvers(content: dict) -> str:
    """The exact solve and conjugate gradients for the same influence."""
    parts = [_origin(content)]
    for experiment, found in content["experiments"].items():
        rows = []
        for row in found["rows"]:
            numbers = [_number(row["seconds"]), _spread(row), _number(row["peak_mib"]), _number(row["ratio"], "x")]
            agreement = ["", "", ""]
            if "rank_correlation" in row:
                agreement = [f"{row['rank_correlation']:.6f}"]
                agreement += [f"{row[key]:.1e}" for key in ("largest_difference", "relative_difference")]
            products = [_number(row.get("iterations")), f"{row['largest_relative_residual']:.1e}"]
            rows.append([row["contender"], *numbers, *products, *agreement])
        header = ["contender", "seconds", "min to max (runs)", "peak MiB", "ratio", "block products", "residual"]
        header += ["rank correlation", "largest difference / largest score", "relative difference"]
        title = f"{experiment}, {found['num_test']} test examples, damping {found['damping']}"
        parts.append(f"{title}\n\n{_table(header, rows)}")
    return "\n\n".join(parts)


def projected_trak(content: dict) -> str:
    """TRAKer here and traker's, on a ResNet-18 and on a member of the study."""
    titles = {"resnet18": "ResNet-18", "member": "member of cnn_mnist3"}
    rows = []
    for key, title in titles.items():
        for row in content[key]["rows"]:
            note = f" ({row['note']}, scaled)" if "note" in row else ""
            numbers = [_number(row["seconds"]), _spread(row), _number(row["peak_mib"]), _number(row["ratio"], "x")]
            rows.append([title, row["contender"] + note, *numbers])
    times = _table(["work", "contender", "seconds", "min to max (runs)", "peak MiB", "ratio"], rows)
    pairs = content["member"]["agreement"]
    ranks = [[" and ".join(pair["between"]), f"{pair['median']:.3f}", f"{pair['min']:.3f}"] for pair in pairs]
    agreement = _table(["rank correlation for each test example between", "median", "smallest"], ranks)
    return f"{_origin(content)}\n\n{times}\n\n{agreement}"


def traker_resnet18(content: dict) -> str:
    """TRAKer here and traker's at the size of a course project."""
    rows = []
    for row in content["rows"]:
        note = f" ({row['note']}, scaled)" if "note" in row else ""
        numbers = [_number(row["seconds"]), _spread(row), _number(row["peak_mib"]), _number(row["ratio"], "x")]
        rows.append([row["contender"] + note, *numbers])
    return f"{_origin(content)}\n\n{_table(['contender', 'seconds', 'min to max (runs)', 'peak MiB', 'ratio'], rows)}"


def traker_resnet18_own_task(content: dict) -> str:
    """The same by a task of a user's own."""
    return traker_resnet18(content)


def vit_base(content: dict) -> str:
    """The gradient kernel of a ViT-Base against the published loop."""
    rows = [
        [
            row["contender"] + (f" ({row['note']}, scaled)" if "note" in row else ""),
            _number(row["seconds"]),
            _number(row["peak_mib"]),
        ]
        for row in content["rows"]
    ]
    errors = ", ".join(f"{name} {error:.1e}" for name, error in content["relative_error"].items())
    summary = f"The loop takes **{_number(content['speedup'], 'x')}** the time; relative difference on the sample: {errors}."
    return f"{_origin(content)}\n\n{_table(['contender', 'seconds', 'peak MiB'], rows)}\n\n{summary}"


def scaling(content: dict) -> str:
    """Seconds and memory of the gradient kernel against training examples, test examples and parameters."""
    rows = [
        [
            f"{row['num_train']:,} x {row['num_test']:,}",
            f"{row['parameters']:,}",
            _number(row["seconds"]),
            _number(row["peak_mib"]),
        ]
        for row in content["rows"]
    ]
    figure = f"![{scaling.__doc__}](results/scaling.png)"
    return f"{figure}\n\n{_origin(content)}\n\n{_table(['train x test', 'parameters', 'seconds', 'peak MiB'], rows)}"


def study(content: dict) -> str:
    """Every step of the study."""
    rows = [
        [f"`{row['step']}`", *(_number(row[key]) for key in ("seconds", "processor_seconds", "peak_mib"))]
        for row in content["rows"]
    ]
    rows.append(["**all**", f"**{_number(content['seconds'])}**", "", f"**{_number(content['peak_mib'])}**"])
    return f"{_origin(content)}\n\n{_table(['step', 'seconds', 'processor seconds', 'peak MiB'], rows)}"


def where_time_goes(content: dict) -> str:
    """Seconds of each step beside what arithmetic and memory traffic would take."""
    rates, image = content["machine"], content["image"]
    machine = (
        f"The machine multiplies matrices at {rates['flops_per_second'] / 1e9:.0f} GFLOP/s and copies at "
        f"{rates['bytes_per_second'] / 1e9:.0f} GB/s. One image costs {image['forward_mflop']} MFLOP forward and "
        f"{image['forward_backward_mflop']} MFLOP forward and backward; its operators read and write "
        f"{image['forward_megabytes']} MB and {image['forward_backward_megabytes']} MB."
    )
    rows = []
    for row in content["rows"]:
        limit = max(row.get("arithmetic_seconds", 0), row.get("memory_seconds", 0))
        limits = [_number(row.get(key)) for key in ("gflop", "arithmetic_seconds", "gigabytes", "memory_seconds")]
        rows.append([row["step"], _number(row["seconds"]), *limits, _number(row["seconds"] / limit, "x") if limit else ""])
    header = ["step, five checkpoints", "seconds", "GFLOP", "at the peak, s", "GB", "at the copy rate, s", "above the larger"]
    shares = [
        [entry["work"], ", ".join(f"{name.removeprefix('aten::')} {share:.0%}" for name, share in entry["shares"].items())]
        for entry in content["operators"]
    ]
    return "\n\n".join([_origin(content), machine, _table(header, rows), _table(["work", "operators' own time"], shares)])


def feature_maps(content: dict) -> str:
    """Influence maps of many pairs against a loop."""
    ours = content["rows"][-1]["seconds"]
    rows = []
    for row in content["rows"]:
        error, last = row.get("relative_difference"), row is content["rows"][-1]
        rows.append(
            [
                row["contender"],
                _number(row["seconds"]),
                _spread(row),
                f"x {_number(row['scaled_by'])}",
                _number(row["peak_mib"]),
                "" if last else _number(row["seconds"] / ours, "x"),
                "" if error is None else f"{error:.1e}",
            ]
        )
    header = ["contender", "seconds", "min to max (runs)", "scaled by", "peak MiB", "slower", "relative difference"]
    title = f"{content['num_pairs']:,} pairs, {content['num_per_class']} training examples a class"
    return f"{_origin(content)}\n\n{title}\n\n{_table(header, rows)}"


def start_up(content: dict) -> str:
    """Seconds until a script answers or works, and in imports of torch."""
    rows = [
        [row["contender"], _number(row["seconds"]), _spread(row), _number(row["in_imports_of_torch"])]
        for row in content["rows"]
    ]
    return f"{_origin(content)}\n\n{_table(['process', 'seconds', 'min to max (runs)', 'in imports of torch'], rows)}"


def through_training(content: dict) -> str:
    """What differentiation through a training costs."""
    return unrolling_tables.through_training(content, _origin(content), _table, _number, _spread)


def robustness(content: dict) -> str:
    """Mistakes, kills, signals, limits and second writers: how many were tried, and how many ended as they should."""
    rows, failed = [], []
    for part, found in content["parts"].items():
        for kind, counts in found["kinds"].items():
            rows.append([_ROBUSTNESS[part].format(kind), f"{counts['tried']:,}", f"{counts['handled']:,}"])
        failed += [f"- {row['title']}: {row['reason']}" for row in found["failed"]]
    return "\n\n".join([_origin(content), _table(["what", "tried", "handled"], rows), *(["\n".join(failed)] if failed else [])])


_ROBUSTNESS = {
    "arguments": "wrong arguments of scripts",
    "files": "spoilt files: {}",
    "traker": "wrong calls of `TRAKer`",
    "kills": "processes killed at random moments",
    "signals": "processes interrupted at random moments, {}",
    "limits": "{}",
    "writers": "two processes at one step",
}


def filled(text: str) -> str:
    """The text with every table rendered anew; a table whose JSON file is missing is empty."""

    def replace(match: re.Match) -> str:
        name = match[1]
        path = RESULTS / f"{name}.json"
        if not path.exists():
            return f"<!-- table {name} -->\n<!-- end -->"
        content, stem = json.loads(path.read_text()), name.removesuffix("_cuda")
        if elsewhere := getattr(language_tables, stem, getattr(scale_tables, stem, None)):
            return f"<!-- table {name} -->\n{elsewhere(content, _origin(content), _table, _number, _spread)}\n<!-- end -->"
        return f"<!-- table {name} -->\n{globals()[stem](content)}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


def main(settings: Settings) -> str:
    """Rewrite the pages' tables."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))
    return f"filled the tables of {' and '.join(str(page.relative_to(CHECKOUT)) for page in PAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
