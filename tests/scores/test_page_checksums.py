"""Damage anywhere in a score file's numbers is noticed, that of its training indices too; what may not be read is no damage."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tda.scores.score_files import load_score_file, read_score_info, save_scores
from tda.system.errors import UserError

METADATA = {"method": "loo", "seed_id": 0, "epoch": 1, "experiment": "a", "data": {}, "settings": {}}
TRAIN, TEST = np.arange(7, 7000, 7), np.array([3, 1])


def written(folder: Path) -> Path:
    path = folder / "0" / "attribution_epoch_1.parquet"
    save_scores(path, np.random.default_rng(0).normal(size=(len(TRAIN), 2)), TRAIN, TEST, METADATA)
    return path


def test_a_changed_byte_in_any_column_is_noticed(tmp_path: Path):
    """The values have a checksum in the metadata; the indices that the rows stand for have only the pages'."""
    path = written(tmp_path)
    whole = path.read_bytes()
    np.testing.assert_array_equal(load_score_file(path)[1], TRAIN)
    columns = pq.ParquetFile(path).metadata.row_group(0)
    for number in range(columns.num_columns):
        column = columns.column(number)
        end = column.data_page_offset + column.total_compressed_size
        noticed = 0
        for place in range(end - 400, end, 20):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(UserError, match="attribution_epoch_1.parquet is (not a whole score file|damaged)"):
                load_score_file(path)
            noticed += 1
        assert noticed == 20


def test_score_file_that_may_not_be_read_is_not_to_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path)

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        for read in (load_score_file, read_score_info):
            with pytest.raises(UserError, match="cannot read .*attribution_epoch_1.parquet: permission is denied") as caught:
                read(path)
            assert "delete" not in str(caught.value)
    path.unlink()
    os.mkfifo(path)
    for read in (load_score_file, read_score_info):
        with pytest.raises(UserError, match="it is a pipe"):
            read(path)
