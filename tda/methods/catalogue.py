"""What methods there are, read from their files without importing them: the project's own, and the user's in methods/.

A method's file says everything of it in one call of `register`, whose arguments are plain values or names that the file
gives to plain values. A name, a title or a list of settings is therefore there at once, where importing the methods would
wait for torch.
"""

import ast
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tda.experiments.folders import methods_folder
from tda.scores.sign import SIGN
from tda.system.arguments import Setting
from tda.system.errors import UserError
from tda.system.user_files import reason, user_files

ALL = "all"
"""In place of a method's name: every method that says it may be among them."""

_OWN_FOLDER = Path(__file__).parent
_ANNOTATIONS = {"int": int, "float": float, "str": str, "bool": bool}
_ANNOTATIONS |= {f"{name} | None": kind | None for name, kind in _ANNOTATIONS.items() if kind is not bool}


@dataclass(frozen=True)
class Description:
    """What a method says of itself.

    name: short, as in arguments and folders; sign: what a positive score means; settings: the defaults, by name.
    needs: what it needs besides an ensemble's scored checkpoints, in words that follow "for want of"; "" for nothing.
    in_all: whether the word `all` brings it.
    """

    name: str
    title: str
    citation: str
    sign: str
    needs: str
    in_all: bool
    settings: dict


@dataclass(frozen=True)
class Entry:
    """A description, each setting with its type, the docstring, and the file it was read from."""

    description: Description
    settings: dict[str, Setting]
    documentation: str
    file: Path

    @property
    def title(self) -> str:
        """The name for figures."""
        return self.description.title

    @property
    def is_own(self) -> bool:
        """Whether the file is one of the project's, not of the user's."""
        return self.file.parent == _OWN_FOLDER


def describe(
    name: str, title: str, citation: str, sign: str = SIGN, needs: str = "", in_all: bool = True, **settings
) -> Description:
    """The arguments of `register`; raises UserError for a name that cannot be a folder's and an argument's."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == ALL:
        raise UserError(f"a method cannot be named {name}; use small letters, digits and _, and another word than {ALL}")
    return Description(name, title, citation, sign, needs, in_all, settings)


def catalogue() -> dict[str, Entry]:
    """All methods by name, the project's own first.

    Raises UserError, which names the file, if one cannot be read or describes a method whose name is taken.
    """
    entries, mistakes = _read_all()
    if mistakes:
        raise mistakes[0]
    return entries


def chosen_entries(names: Sequence[str]) -> dict[str, Entry]:
    """The named methods in the order of the names; `all` stands for those that say so.

    Raises UserError for unknown names, for none, and as catalogue does.
    """
    entries = catalogue()
    if unknown := [name for name in names if name != ALL and name not in entries]:
        raise UserError(f"unknown method {unknown[0]}; known methods are {', '.join(sorted(entries))}")
    if not names:
        raise UserError(f"no method is chosen; known methods are {', '.join(sorted(entries))}, or {ALL}")
    brought = [name for name, entry in entries.items() if entry.description.in_all]
    return {name: entries[name] for given in names for name in (brought if given == ALL else [given])}


def entry_named(name: str) -> Entry:
    """The method of this name; raises UserError, which lists the known ones."""
    return chosen_entries([name])[name]


def method_title(name: str) -> str:
    """A method's name for figures; the short one where no file describes it any more."""
    entries, _ = _read_all()
    return entries[name].title if name in entries else name


def means_helpful(name: str) -> bool:
    """Whether a positive score of a method means helpful, as of most; also where no file describes it any more."""
    entries, _ = _read_all()
    return name not in entries or entries[name].description.sign == SIGN


def _read_all() -> tuple[dict[str, Entry], list[UserError]]:
    entries, mistakes = {}, []
    for path in [*user_files(_OWN_FOLDER), *user_files(methods_folder())]:
        try:
            for entry in _read(path, path.stat().st_mtime_ns):
                other = entries.setdefault(entry.description.name, entry)
                if other is not entry:
                    raise UserError(f"{path} registers {entry.description.name}, as {other.file} does; choose another name")
        except UserError as error:
            mistakes.append(error)
    return entries, mistakes


@functools.cache
def _read(path: Path, changed: int) -> tuple[Entry, ...]:
    """The methods of a file; `changed` is when it was, so that a new version is read anew."""
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {reason(error, path)}") from error
    constants = {"SIGN": SIGN} | _constants(tree.body)
    functions = [statement for statement in tree.body if isinstance(statement, ast.FunctionDef)]
    return tuple(
        _entry(function, decorator, constants, path)
        for function in functions
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).rpartition(".")[2] == "register"
    )


def _constants(statements: Iterable[ast.stmt]) -> dict[str, object]:
    """What the file's own names for plain values stand for."""
    constants = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                constants[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    return constants


def _entry(function: ast.FunctionDef, call: ast.Call, constants: dict[str, object], path: Path) -> Entry:
    def value(node: ast.expr) -> object:
        return constants[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)

    try:
        words = {word.arg: value(word.value) for word in call.keywords if word.arg != "check"}
        description = describe(*map(value, call.args), **words)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}, line {call.lineno}: register needs a name, a title and a citation, and its arguments must be plain values"
        ) from error
    except UserError as error:
        raise UserError(f"{path}, line {call.lineno}: {error}") from error
    arguments = function.args.args + function.args.kwonlyargs
    annotations = {argument.arg: ast.unparse(argument.annotation) for argument in arguments if argument.annotation}
    settings = {}
    for key, default in description.settings.items():
        annotation = _ANNOTATIONS.get(annotations.get(key, type(default).__name__))
        if annotation is None:
            raise UserError(f"{path}, line {call.lineno}: setting {key} needs an annotation, one of {', '.join(_ANNOTATIONS)}")
        settings[key] = Setting(annotation, default)
    return Entry(description, settings, ast.get_docstring(function) or "", path)
