"""Texts in files of every form, and what is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tda.data.text_files import TextTable, text_file, text_table
from tda.system.errors import UserError

TEXTS = ["A first text.", "a second, with a comma", "und ein dritter: ähnlich"]
NAMES = ["one", "two", "one"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "own"
    found.mkdir()
    return found


def read(folder: Path, part: str = "train") -> TextTable:
    return text_table(folder, part, folder.parent)


def write_parquet(folder: Path) -> None:
    pd.DataFrame({"words": TEXTS, "kind": NAMES}).to_parquet(folder / "train.parquet")


def write_pieces(folder: Path) -> None:
    for number, rows in enumerate((slice(0, 2), slice(2, 3))):
        frame = pd.DataFrame({"words": TEXTS[rows], "kind": NAMES[rows]})
        frame.to_parquet(folder / f"train-{number:05}-of-00002.parquet")


def write_pieces_counted_from_one(folder: Path) -> None:
    write_pieces(folder)
    for number in (2, 1):
        (folder / f"train-{number - 1:05}-of-00002.parquet").rename(folder / f"train-{number:05}-of-00002.parquet")


def write_csv(folder: Path) -> None:
    # With the mark that spreadsheets put in front, and a line end in a cell.
    pd.DataFrame({"words": TEXTS, "kind": NAMES}).to_csv(folder / "train.csv", index=False, encoding="utf-8-sig")


def write_jsonl(folder: Path) -> None:
    lines = [json.dumps({"words": text, "kind": name}) for text, name in zip(TEXTS, NAMES, strict=True)]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n\n")


@pytest.mark.parametrize("write", [write_parquet, write_pieces, write_pieces_counted_from_one, write_csv, write_jsonl])
def test_named_columns_are_read(folder: Path, write: Callable[[Path], None]):
    write(folder)
    table = read(folder)
    assert table.texts("words") == TEXTS and table.names("kind") == NAMES and len(set(table.rows)) == 3
    assert all(row.startswith("own/train") for row in table.rows)
    with pytest.raises(UserError, match="has no column label; its columns are words, kind; name them in the task's entry"):
        table.texts("label")


def test_a_text_a_line_without_empty_lines(folder: Path):
    (folder / "train.txt").write_text("\n".join([TEXTS[0], "", *TEXTS[1:], ""]))
    table = read(folder)
    assert table.texts("text") == TEXTS and table.rows == [f"own/train.txt, line {number}" for number in (1, 3, 4)]


def test_a_text_a_file_with_or_without_folders_of_classes(folder: Path):
    for name, text in zip("bac", TEXTS, strict=True):
        (folder / "train").mkdir(exist_ok=True)
        (folder / "train" / f"{name}.txt").write_text(text)
        (folder / "test" / name).mkdir(parents=True)
        (folder / "test" / name / "0.txt").write_text(text + "\n")
    plain, classes = read(folder), read(folder, "test")
    assert plain.texts("text") == [TEXTS[1], TEXTS[0], TEXTS[2]] and list(plain.columns) == ["text"]
    assert classes.names("class") == ["a", "b", "c"] and classes.texts("text")[0] == TEXTS[1] + "\n"
    assert classes.rows[2] == "own/test/c/0.txt"
    (folder / "test" / "c" / "1.TXT").write_text("by a program that writes capitals")
    assert read(folder, "test").texts("text")[3] == "by a program that writes capitals"
    (folder / "test" / "d.txt").write_text("beside")
    with pytest.raises(UserError, match="holds texts beside folders of texts"):
        read(folder, "test")


def test_lists_of_facts(folder: Path):
    pd.DataFrame({"words": TEXTS, "facts": [["a | b | c", "d | e | f"], [], None]}).to_parquet(folder / "train.parquet")
    assert read(folder).tuples("facts") == [("a | b | c", "d | e | f"), (), ()]
    (folder / "test.jsonl").write_text('{"facts": "a"}\n{"facts": [1]}')
    with pytest.raises(UserError, match="test.jsonl, line 2 holds a list in column facts, not a list of texts"):
        read(folder, "test").tuples("facts")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.csv", b"", "train.csv is empty; its first line names the columns"),
        ("train.csv", b"words,kind\na,b,c\n", "train.csv, line 2, has 3 cells instead of 2"),
        ("train.csv", b'words,kind\n"a,b\n', "cannot be read as a table with commas"),
        ("train.csv", b"words,kind\n\xff,b\n", "is not text in UTF-8: byte 11 cannot be decoded; save it in UTF-8"),
        ("train.csv", b"words,kind,words\na,b,c\n", "train.csv has more than one column words"),
        ("train.csv", b"words,kind\n", "train.csv holds no rows; fill it"),
        ("train.txt", b"\n \n", "train.txt holds no rows; fill it"),
        ("train.jsonl", b"", "train.jsonl holds no rows; fill it"),
        ("train.jsonl", b"[" * 100_000, "train.jsonl, line 1, is no JSON: maximum recursion depth exceeded"),
        ("train.jsonl", b'{"words": ' + b"1" * 5000 + b"}", "train.jsonl, line 1, is no JSON: Exceeds the limit"),
        ("train.jsonl", b'{"words": "a"}\n{"words"', "train.jsonl, line 2, is no JSON"),
        ("train.jsonl", b"[1, 2]\n", "train.jsonl, line 1, holds no object with named columns"),
        ("train.txt", b"abc\n\xe4\n", "is not text in UTF-8: byte 4"),
        ("train.parquet", b"PAR1", "is not a whole parquet file"),
        ("test.txt", b"a", "it holds neither of train.parquet, train.csv, train.jsonl, train.txt or a folder train"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, name: str, content: bytes, words: str):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        read(folder)


def test_what_is_no_text_is_named_with_its_row(folder: Path):
    lines = [{"words": "a", "kind": 3}, {"words": " ", "kind": None}, {"words": 5}]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = read(folder)
    with pytest.raises(UserError, match="own/train.jsonl, line 2 holds an empty text in column words; fill or remove it"):
        table.texts("words")
    with pytest.raises(UserError, match="line 2 holds no label in column kind; labels are class names or whole numbers"):
        table.names("kind")
    table.columns["words"][1] = "b"
    with pytest.raises(UserError, match="line 3 holds a int in column words, not a text"):
        table.texts("words")


def test_missing_and_ambiguous_folders_are_refused(folder: Path):
    with pytest.raises(UserError, match="nowhere is missing; put train.parquet, train.csv"):
        read(folder / "nowhere")
    write_csv(folder)
    write_jsonl(folder)
    with pytest.raises(UserError, match="holds train.csv and train.jsonl too; move one of them away"):
        read(folder)
    (folder / "test").mkdir()
    with pytest.raises(UserError, match="holds no .txt files"):
        read(folder, "test")


def test_what_stands_beside_a_part_is_none_of_its_pieces(folder: Path):
    write_parquet(folder)
    expected = read(folder).texts("words")
    for other in ("train_old.parquet", "train.backup.parquet", "train-heldout.parquet"):
        pd.DataFrame({"words": ["other"], "kind": ["x"]}).to_parquet(folder / other)
    assert read(folder).texts("words") == expected


def test_one_file_is_read_whatever_stands_beside_it(folder: Path):
    write_csv(folder)
    write_jsonl(folder)
    pd.DataFrame({"words": ["alone"]}).to_parquet(folder / "texts (1).parquet")
    assert text_file(folder / "train.csv").texts("words") == text_file(folder / "train.jsonl").texts("words") == TEXTS
    assert text_file(folder / "texts (1).parquet").texts("words") == ["alone"]
    (folder / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="empty.txt holds no rows; fill it"):
        text_file(folder / "empty.txt")


def test_hidden_folders_hold_no_texts(folder: Path):
    for place in ("zero", "one", "zero/.ipynb_checkpoints"):
        (folder / "train" / place).mkdir(parents=True)
        (folder / "train" / place / "a.txt").write_text("text")
    assert len(read(folder).rows) == 2


def test_half_of_a_letter_is_named_with_its_row(folder: Path):
    (folder / "train.jsonl").write_text(json.dumps({"words": "bad \ud83d"}))
    with pytest.raises(UserError, match="line 1 holds half of a letter, a lone surrogate, in column words"):
        read(folder).texts("words")
    with pytest.raises(UserError, match="line 1 holds half of a letter, a lone surrogate, in column words"):
        read(folder).tuples("words")


@pytest.mark.parametrize(("beside", "removed"), [("train.parquet", None), ("data/train.parquet", 0), (None, 0), (None, 1)])
def test_pieces_that_are_missing_or_there_twice_are_refused(folder: Path, beside: str | None, removed: int | None):
    write_pieces(folder)
    pieces = sorted(folder.glob("*.parquet"))
    if beside is not None:
        (folder / "data").mkdir()
        pd.DataFrame({"words": TEXTS, "kind": NAMES}).to_parquet(folder / beside)
    if removed is not None:
        pieces[removed].unlink()
    with pytest.raises(UserError, match=r"own holds .*, neither one train.parquet nor each of its pieces once"):
        read(folder)
