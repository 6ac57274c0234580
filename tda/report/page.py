"""From content to one self-contained file: templates, styles and code lie beside this file, in templates/ and vendor/."""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2

from tda.system.errors import UserError

_HERE = Path(__file__).parent
_SCRIPTS = ("values", "arrays", "format", "tables", "charts", "examples", "explorer", "training", "data", "main")
COMPARISON_SCRIPTS = ("values", "format", "tables", "comparison")
_LIBRARIES = ("d3", "plot")


@cache
def _environment() -> jinja2.Environment:
    """Templates escape every value that they write."""
    loader = jinja2.FileSystemLoader(_HERE / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["digits"] = digits
    return environment


def rendered(template: str, limit: int, scripts: Sequence[str] = _SCRIPTS, **values: object) -> str:
    """The page that a template makes of values, with styles, libraries and code inside.

    Raises UserError if it is larger than `limit` bytes.
    """
    parts = {
        "style": (_HERE / "templates" / "style.css").read_text(encoding="utf-8"),
        "libraries": [(_HERE / "vendor" / f"{name}.min.js").read_text(encoding="utf-8") for name in _LIBRARIES],
        "code": [(_HERE / "templates" / f"{name}.js").read_text(encoding="utf-8") for name in scripts],
    }
    page = _environment().get_template(template).render(**parts, **values)
    size = len(page.encode())
    if size > limit:
        raise UserError(f"the page would have {size / 1e6:.1f} MB, more than {limit / 1e6:.0f}; name fewer methods or seeds")
    return page


def digits(value: float | None, form: str = "number") -> str:
    """A number as tables show it: three significant digits, a percentage, two digits behind the point, or seconds."""
    if value is None:
        return "–"
    if form == "percent":
        return f"{100 * value:.1f} %"
    if form == "correlation":
        return f"{value:z.2f}".replace("-", "−")
    if form == "seconds":
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    """As the page's code writes numbers, so that a table looks the same whoever filled it."""
    size = abs(value)
    if value and (size < 1e-4 or size >= 1e5):
        mantissa, exponent = f"{value:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return f"{float(f'{value:.3g}'):.15g}".replace("-", "−")


def command(script: str, arguments: Mapping[str, object]) -> str:
    """The command that makes a page again."""
    words = [script]
    for name, value in arguments.items():
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(["python", *words])
