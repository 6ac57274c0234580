"""From a script's constants to its command line: the only place that parses arguments and prints.

A script declares its constants as fields of a dataclass, each followed by a line of documentation. The same lines are
the constants to edit, the arguments, and the text of `--help`.
"""

import argparse
import ast
import dataclasses
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable

from tda.system.errors import UserError


def run_script(settings_class: type, main: Callable[..., str]) -> None:
    """Parse the command line into `settings_class`, call `main` with it, and print the closing line it returns.

    A UserError ends the process with its sentence on standard error and exit status 2, an interrupt with 130.
    """
    settings = parse(settings_class, inspect.getmodule(settings_class).__doc__, sys.argv[1:])
    try:
        closing_line = main(settings)
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command continues where this one stopped\n")
        sys.exit(130)
    sys.stdout.write(f"{closing_line}\n")


def parse(settings_class: type, description: str, arguments: list[str]) -> object:
    """Build the settings from `arguments`; wrong ones end the process with one sentence and exit status 2."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    documentation = field_documentation(settings_class)
    types_of = typing.get_type_hints(settings_class)
    for entry in dataclasses.fields(settings_class):
        help_text = f"{documentation[entry.name]} (default: {entry.default})".replace("%", "%%")
        if types_of[entry.name] is bool:
            parser.add_argument(f"--{entry.name}", action=argparse.BooleanOptionalAction, default=entry.default, help=help_text)
        else:
            parser.add_argument(f"--{entry.name}", type=_plain(types_of[entry.name]), default=entry.default, help=help_text)
    return settings_class(**vars(parser.parse_args(arguments)))


def field_documentation(settings_class: type) -> dict[str, str]:
    """The string that follows each field in the source of the class or of the bases it inherits from."""
    found: dict[str, str] = {}
    for owner in reversed(settings_class.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body
        for statement, following in zip(body, body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                found[statement.target.id] = " ".join(following.value.value.split())
    return found


def _plain(annotation: object) -> type:
    """int for `int | None`."""
    if isinstance(annotation, types.UnionType):
        return next(kind for kind in annotation.__args__ if kind is not types.NoneType)
    return annotation
