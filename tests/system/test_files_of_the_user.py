"""Files of the user's own that are none: named in a sentence, and never waited for."""

import os
from pathlib import Path

import pytest

from tda.methods.catalogue import catalogue
from tda.system.errors import UserError
from tda.system.user_files import user_files


def test_names_in_order_without_hidden_ones(tmp_path: Path):
    for name in ("b.py", "a.py", "_c.py", ".d.py", "e.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in user_files(tmp_path)] == ["a.py", "b.py"]
    assert user_files(tmp_path / "none") == []


def test_a_link_to_nothing_is_named(tmp_path: Path):
    (tmp_path / "mine.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(UserError, match=r"mine\.py is a link to a file that is not there"):
        user_files(tmp_path)


def test_a_pipe_and_a_folder_are_refused_unopened(tmp_path: Path):
    os.mkfifo(tmp_path / "mine.py")
    with pytest.raises(UserError, match=r"cannot read .*mine\.py"):
        user_files(tmp_path)
    (tmp_path / "mine.py").unlink()
    (tmp_path / "mine.py").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*mine\.py"):
        user_files(tmp_path)


def test_the_catalogue_says_so(root: Path):
    (root / "methods").mkdir()
    (root / "methods" / "mine.py").symlink_to(root / "gone.py")
    with pytest.raises(UserError, match="is a link to a file that is not there"):
        catalogue()
