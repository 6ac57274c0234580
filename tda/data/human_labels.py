"""CIFAR-10N: labels that people gave to CIFAR-10's training images (Wei et al., ICLR 2022), beside the clean ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tda.data.downloads import cifar10
from tda.data.picture_tables import count_rows
from tda.data.pools import Pool
from tda.experiments.folders import data_folder
from tda.system.errors import UserError

_COLUMN_OF = {"aggregate": "aggre_label", "random": "random_label1", "worst": "worse_label"}
_CLEAN = "clean_label"


def cifar10n(labels: str, part: str) -> Pool:
    """CIFAR-10 with the labels that people gave as labels of the training part and the published ones as true_labels.

    labels: "aggregate", what most of three people said; "random", the first of them; "worst", a wrong label where one of them
    gave one. Read from data/cifar10n/human_labels.parquet, 50,000 rows in the order of CIFAR-10's training part. The test part
    is CIFAR-10's. Raises UserError if the file is missing or is not of these images, and as cifar10 does.
    """
    pool, path = cifar10(part), data_folder() / "cifar10n" / "human_labels.parquet"
    if part == "test":
        return pool
    given, clean = _columns(path, _COLUMN_OF[labels], _CLEAN)
    if len(clean) != len(pool.labels) or (clean != pool.labels).any():
        raise UserError(
            f"{path} is not of CIFAR-10's training part as it is published: its {_CLEAN} differs from the labels there; write "
            f"its rows in that order"
        )
    return replace(pool, labels=given, true_labels=pool.labels)


def _columns(path: Path, *names: str) -> list[np.ndarray]:
    """Columns of labels (n,) int64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise UserError(
            f"{path} is missing; write the labels of CIFAR-10N, published as CIFAR-10_human.pt in the repository "
            f"UCSC-REAL/cifar-10-100n, into it as docs/adding-a-task.md says"
        )
    count_rows(path)
    table = pq.read_table(path)
    for name in names:
        if name not in table.column_names or not pa.types.is_integer(table.schema.field(name).type):
            raise UserError(f"{path} has no column {name} of whole numbers; write it again as docs/adding-a-task.md says")
    found = [table.column(name).to_numpy().astype(np.int64) for name in names]
    for name, column in zip(names, found, strict=True):
        if len(column) and not (0 <= column.min() and column.max() <= 9):
            raise UserError(f"{path} holds labels outside of 0 to 9 in column {name}; write it again")
    return found
