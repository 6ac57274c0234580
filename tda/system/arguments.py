"""Arguments of a script, read over the constants that are their defaults; a mistake ends in one sentence and exit status 2."""

import argparse
import ast
import dataclasses
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tda.system.errors import UserError

Reader = Callable[[str], object]


@dataclass(frozen=True)
class Setting:
    """Something that can be given: its annotation, such as float | None, and its default."""

    annotation: object
    default: object


@dataclass(frozen=True)
class Choice:
    """Something that can be chosen by name and has settings of its own, with what --help says of it."""

    title: str
    documentation: str
    settings: dict[str, Setting]


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence."""

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"error: {' '.join(message.split())}; {self.prog} --help explains every argument\n")


def parse(settings: typing.Any, description: str, arguments: list[str]) -> typing.Any:
    """A copy of `settings`, a dataclass, with what the arguments say; wrong ones end the process with status 2.

    Raises UserError for a constant in `settings` that its field cannot hold. A field of type dict[str, dict] chooses things
    with settings of their own: `--methods a,b` chooses, `--a.x 1` sets; its class tells by `choices(names)` what they are. Of
    its `alternatives` one alone can be given; it replaces the others.
    """
    parser = _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    arguments = _with_negative_numbers(arguments)
    annotations = typing.get_type_hints(type(settings))
    for entry in dataclasses.fields(settings):
        constant = Setting(annotations[entry.name], getattr(settings, entry.name))
        _refuse_unfit(entry.name, constant)
        if typing.get_origin(constant.annotation) is tuple:
            settings = dataclasses.replace(settings, **{entry.name: _each_once(constant.default)})
    try:
        choosing = _add_fields(parser, settings)
        choices = {field: _add_choices(parser, settings, field, arguments) for field in choosing}
        known, unknown = parser.parse_known_args(arguments)
        if unknown:
            raise UserError(_about_unknown(unknown[0], choices))
        given = vars(known)
        for field in choosing:
            given[field] = _chosen(settings, field, choices[field], given)
        changed = {name: value for name, value in given.items() if "." not in name}
        settings = dataclasses.replace(settings, **changed, **_replaced(settings, given))
        _refuse_both(settings)
        return settings
    except UserError as error:
        parser.error(str(error))


def field_documentation(settings_class: type) -> dict[str, str]:
    """The string that follows each field in the source of the class or of the bases it inherits from."""
    documentation: dict[str, str] = {}
    for owner in reversed(settings_class.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body
        for statement, following in zip(body, body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                documentation[statement.target.id] = " ".join(following.value.value.split())
    return documentation


def _add_fields(parser: argparse.ArgumentParser, settings: typing.Any) -> list[str]:
    """Add an argument for each field; returns the names of those that choose things with settings of their own."""
    documentation = field_documentation(type(settings))
    annotations = typing.get_type_hints(type(settings))
    choosing = []
    for entry in dataclasses.fields(settings):
        setting = Setting(annotations[entry.name], getattr(settings, entry.name))
        if typing.get_origin(setting.annotation) is dict:
            choosing.append(entry.name)
            setting = Setting(tuple[str, ...], tuple(setting.default))
        _add(parser, entry.name, setting, documentation[entry.name])
    return choosing


def _add_choices(parser: argparse.ArgumentParser, settings: typing.Any, field: str, arguments: list[str]) -> dict[str, Choice]:
    """Add a group of arguments for each thing that the arguments choose, or the script where they choose none."""
    first = _Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument(f"--{field}", type=_reader(tuple[str, ...]))
    in_script = getattr(settings, field)
    names = getattr(first.parse_known_args(arguments)[0], field)
    choices = settings.choices(tuple(in_script) if names is None else names)
    for name, choice in choices.items():
        group = parser.add_argument_group(choice.title, choice.documentation)
        for key, setting in choice.settings.items():
            default = in_script.get(name, {}).get(key, setting.default)
            _add(group, f"{name}.{key}", Setting(setting.annotation, default))
    return choices


def _add(parser: typing.Any, name: str, setting: Setting, documentation: str = "") -> None:
    words = f"{documentation} (default: {_as_text(setting.default)})".strip().replace("%", "%%")
    if setting.annotation is bool:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=words)
    else:
        metavar = name.rpartition(".")[2].upper()
        count = _fixed_length(setting.annotation)
        kind = str if count else setting.annotation
        several = {"nargs": count, "action": _AsTuple} if count else {}
        parser.add_argument(f"--{name}", type=_reader(kind), metavar=metavar, help=words, **several)


class _AsTuple(argparse.Action):
    """Keeps several words of an argument as a tuple, as constants of a script are."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, *_: object) -> None:
        setattr(namespace, self.dest, tuple(values))


def _fixed_length(annotation: typing.Any) -> int | None:
    """How many words an argument of type tuple[str, str], or None beside it, takes; None for every other type."""
    for kind in annotation.__args__ if isinstance(annotation, types.UnionType) else (annotation,):
        if typing.get_origin(kind) is tuple and set(kind.__args__) == {str}:
            return len(kind.__args__)
    return None


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "none" if value in (None, "") else str(value)


def _chosen(settings: typing.Any, field: str, choices: dict[str, Choice], given: dict) -> dict[str, dict]:
    """What is chosen, by name, each with the settings that the script or the arguments give it."""
    in_script = getattr(settings, field)
    names = given.get(field, tuple(in_script))
    chosen = {}
    for name in dict.fromkeys([*names, *choices]):
        keys = choices[name].settings if name in choices else ()
        by_arguments = {key: given[f"{name}.{key}"] for key in keys if f"{name}.{key}" in given}
        for key in keys:
            if key in in_script.get(name, {}):
                _refuse_unfit(f"{name}.{key}", Setting(keys[key].annotation, in_script[name][key]))
        changed = in_script.get(name, {}) | by_arguments
        if changed or name in names:
            chosen[name] = changed
    return chosen


def _refuse_unfit(name: str, constant: Setting) -> None:
    """Raise UserError unless a constant of the script is of its annotation; a list will do for a tuple."""
    if not _fits(constant.default, constant.annotation):
        raise UserError(
            f"the script's constant {name} is {constant.default!r}, not {_in_words(constant.annotation)}; mend it at its top"
        )


def _fits(value: object, annotation: typing.Any) -> bool:
    if isinstance(annotation, types.UnionType):
        return any(_fits(value, kind) for kind in annotation.__args__)
    if typing.get_origin(annotation) is tuple:
        return isinstance(value, tuple | list) and all(_fits(item, annotation.__args__[0]) for item in value)
    if typing.get_origin(annotation) is dict:
        return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
    if annotation in (int, float):
        return isinstance(value, int | annotation) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _in_words(annotation: typing.Any) -> str:
    if isinstance(annotation, types.UnionType):
        return " or ".join(map(_in_words, annotation.__args__))
    if typing.get_origin(annotation) is tuple:
        return f"a tuple, such as (…,), each item {_in_words(annotation.__args__[0])}"
    if typing.get_origin(annotation) is dict:
        return 'a dict of names with their settings, such as {"trak": {}}'
    return {int: "a whole number", float: "a number", bool: "True or False", str: "a text in quotes"}.get(annotation, "None")


def _replaced(settings: typing.Any, given: Iterable[str]) -> dict[str, None]:
    """The script's constants that an alternative on the command line takes the place of; raises UserError if two are there."""
    defaults = {entry.name: entry.default for entry in dataclasses.fields(settings)}
    replaced = {}
    for alternatives in getattr(settings, "alternatives", ()):
        present = [names for names in alternatives if any(name in given for name in names)]
        if len(present) > 1:
            titles = [" ".join(f"--{name}" for name in names) for names in alternatives]
            raise UserError(f"give either {' or '.join(titles)}, not both")
        others = [name for names in alternatives for name in names if present and names not in present]
        replaced |= {name: None for name in others if defaults[name] is None}
    return replaced


def _refuse_both(settings: typing.Any) -> None:
    """Raise UserError where the script's constants hold two alternatives that a script goes without."""
    defaults = {entry.name: entry.default for entry in dataclasses.fields(settings)}
    for alternatives in getattr(settings, "alternatives", ()):
        optional = [names for names in alternatives if all(defaults[name] is None for name in names)]
        present = [names for names in optional if any(getattr(settings, name) is not None for name in names)]
        if len(present) > 1:
            both = " and ".join(name for names in present for name in names)
            raise UserError(f"the script's constants {both} exclude each other; set all but one of them to None at its top")


def _about_unknown(argument: str, choices: dict[str, dict[str, Choice]]) -> str:
    name, dot, key = argument.partition("=")[0].removeprefix("--").partition(".")
    for field, chosen in choices.items():
        if dot and name in chosen:
            return f"{name} has no setting {key}; it has {', '.join(chosen[name].settings) or 'none'}"
        if dot:
            return f"{argument} is a setting of {name}, which is not chosen; choose it by --{field}"
    return f"unknown argument {argument}"


def _reader(annotation: typing.Any) -> Reader:
    """From the text of an argument to its value; `none` is None where that is allowed, commas part the items of a tuple."""
    if isinstance(annotation, types.UnionType):
        (kind,) = (kind for kind in annotation.__args__ if kind is not types.NoneType)
        read = _reader(kind)
        return lambda text: None if text == "none" else read(text)
    if typing.get_origin(annotation) is tuple:
        read = _reader(annotation.__args__[0])
        return lambda text: _each_once(read(item.strip()) for item in text.split(",") if item.strip())
    return {int: _whole_number, float: _finite_number, str: str}[annotation]


def _each_once(items: Iterable) -> tuple:
    """The items in their order, each once: nothing is meant by naming one twice."""
    return tuple(dict.fromkeys(items))


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from error


def _finite_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from error
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return number


def _with_negative_numbers(arguments: list[str]) -> list[str]:
    """The arguments, a negative number joined to the name before it: argparse takes one with an exponent for a name itself."""
    joined: list[str] = []
    for argument in arguments:
        if argument[:1] == "-" and _is_number(argument) and joined and joined[-1][:2] == "--" and "=" not in joined[-1]:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
