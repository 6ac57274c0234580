"""The first ten classes of Food-101 (Bossard et al. 2014): training labels unclean on purpose, test labels clean."""

import json
from pathlib import Path

import numpy as np

from tda.data.dataset_library import LibrarySource
from tda.data.picture_folders import PicturesOnDemand
from tda.data.picture_tables import parquet_files
from tda.data.pools import Pool
from tda.experiments.folders import data_folder
from tda.system.errors import UserError
from tda.system.files import reading

FOOD101_10 = (
    "apple_pie",
    "baby_back_ribs",
    "baklava",
    "beef_carpaccio",
    "beef_tartare",
    "beet_salad",
    "beignets",
    "bibimbap",
    "bread_pudding",
    "breakfast_burrito",
)
SIZE = 128
"""Side of the images in pixels, whatever they are kept at."""
_TABLES, _AS_PUBLISHED = "food101_10", "food-101"


def food101_10(part: str) -> Pool:
    """The ten classes of the official split's "train" or "test" part, as images (n, 128, 128, 3).

    Read from data/food101_10/<part>.parquet (columns image and label, the class's name), else from data/food-101 as torchvision
    lays it out. Raises UserError if neither is there, or cannot be read.
    """
    tables, published = (data_folder() / name for name in (_TABLES, _AS_PUBLISHED))
    if tables.is_dir() and parquet_files(tables, part):
        return LibrarySource(_TABLES, "image", "label", FOOD101_10, 3, SIZE).pool(part)
    if published.is_dir():
        return _as_published(published, part)
    raise UserError(
        f"Food-101 is not in {data_folder()}; download it there with torchvision.datasets.Food101({str(data_folder())!r}, "
        f"download=True), which is 5 GB, or write train.parquet and test.parquet into {tables} (hub: ethz/food101)"
    )


def _as_published(folder: Path, part: str) -> Pool:
    listed = folder / "meta" / f"{part}.json"
    try:
        with reading(listed):
            names_of = json.loads(listed.read_text(encoding="utf-8"))
        names = [name for label in FOOD101_10 for name in names_of[label]]
        counts = [len(names_of[label]) for label in FOOD101_10]
    except FileNotFoundError as error:
        raise UserError(f"{listed} is missing; delete {folder} and download Food-101 again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{listed} does not list the pictures of each class; delete {folder} and download it again") from error
    paths = [folder / "images" / f"{name}.jpg" for name in names]
    examples = PicturesOnDemand(paths, [f"{name}.jpg of {folder}" for name in names], 3, SIZE)
    files = [str(path.relative_to(data_folder())) for path in paths]
    return Pool(examples, np.repeat(np.arange(len(FOOD101_10)), counts), files)
