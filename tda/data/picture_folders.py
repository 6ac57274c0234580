"""Folders of pictures, one for each class: which files there are, of which class, and what is no picture."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tda.data.pictures import SUFFIXES, decoded
from tda.system.errors import UserError
from tda.system.files import reading_folder

_BESIDE = (".txt", ".csv", ".json", ".jsonl", ".xml", ".md", ".yaml", ".yml", ".ini", ".db")
"""Suffixes of what lies beside pictures and is none."""


@dataclass(frozen=True)
class PictureFiles:
    """Files in the order of their classes' names and then of their paths, each with its class's name."""

    paths: Sequence[Path]
    class_names: Sequence[str]


def pictures_in(folder: Path) -> PictureFiles:
    """The pictures in <folder>/<class>/, at any depth below it, links followed, hidden files left out.

    Raises UserError if the folder holds no folders or none with pictures, pictures outside of them, a file that is neither
    a picture nor text, or one that cannot be read.
    """
    with reading_folder(folder):
        entries = sorted(_visible(folder), key=_order)
        folders = [entry for entry in entries if entry.is_dir()]
        stray = [entry for entry in entries if entry not in folders and _is_picture(entry)]
        if stray:
            raise UserError(f"picture {stray[0]} lies outside a folder of its class; put it into {folder}/<class>/")
        found = [(_name(each), sorted(_pictures_below(each, {each.resolve()}), key=_order)) for each in folders]
    if not any(paths for _, paths in found):
        raise UserError(f"{folder} holds no pictures in folders of their classes; put them into {folder}/<class>/")
    pairs = [(path, name) for name, paths in found for path in paths]
    return PictureFiles(*map(list, zip(*pairs, strict=True)))


def printable(path: Path | str) -> str:
    """A path as UTF-8 text of one line, whatever bytes a file's name is made of."""
    text = unicodedata.normalize("NFC", str(path))
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class PicturesOnDemand:
    """Pictures that are decoded when they are asked for: indexing by positions (n,) gives (n, size, size, channels) uint8."""

    def __init__(self, sources: Sequence[Path | bytes], names: Sequence[str], channels: int, size: int) -> None:
        """sources, names: as of pictures.decoded."""
        self.sources, self.names, self.channels, self.size = sources, names, channels, size

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        names = [self.names[position] for position in positions]
        return decoded((self.sources[position] for position in positions), names, self.channels, self.size)


def _pictures_below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """seen: the real paths of the folders above, so that a link to one of them is not followed for ever."""
    for entry in _visible(folder):
        if entry.is_dir():
            real = entry.resolve()
            if real not in seen:
                yield from _pictures_below(entry, seen | {real})
        elif _is_picture(entry):
            yield entry


def _is_picture(entry: Path) -> bool:
    suffix = entry.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix in _BESIDE:
        return False
    known = ", ".join(SUFFIXES)
    raise UserError(f"{entry} is no picture of a known kind ({known}); convert it, or move it away")


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _name(folder: Path) -> str:
    return printable(folder.name)


def _order(path: Path) -> str:
    """Names sort alike wherever they were written: macOS takes letters with accents apart."""
    return printable(path)
