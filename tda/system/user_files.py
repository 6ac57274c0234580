"""Python files of the user's own, below the root folder: found, and loaded with a sentence where that fails."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from tda.system.errors import UserError, in_one_line
from tda.system.files import reading

_being_loaded: set[Path] = set()


def user_files(folder: Path) -> list[Path]:
    """The folder's Python files, sorted; none where there is no such folder, nor those whose names begin with _ or a dot.

    A file that is being loaded, and asks for the others, is not among them. Raises UserError for what is no file, such as a
    pipe, whose reader would wait for ever, and for a file that is not there or may not be read.
    """
    found = sorted(path for path in {*folder.glob("*.py")} - _being_loaded if not path.name.startswith(("_", ".")))
    for path in found:
        try:
            with reading(path):
                pass
        except FileNotFoundError as error:
            raise UserError(f"{path} is a link to a file that is not there; mend or delete it") from error
    return found


def load_user_file(path: Path, module_name: str) -> ModuleType:
    """Execute a file as a module of this name; raises UserError, which names the file, the line and the reason."""
    specification = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    _being_loaded.add(path)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"{path} cannot be loaded: {reason(error, path)}") from error
    finally:
        _being_loaded.remove(path)
    return module


def reason(error: Exception, path: Path) -> str:
    """What went wrong, and in which line of the file."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} is no Python, {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    said = f"there is no {error}" if isinstance(error, KeyError) else in_one_line(error)
    return f"line {lines[-1]}: {said}" if lines else said
