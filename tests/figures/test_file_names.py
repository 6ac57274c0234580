"""Names of examples' files in figures and tables: shortened, in letters that can be drawn, and absent where there are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.figures.examples import Gallery, draw_example
from tda.figures.saving import drawable, shortened_file
from tda.statistics.pair_statistics import PairStatistics

NAMES = ("größe", "漢字 $x", "_{two}")


def gallery(files: str | None) -> Gallery:
    """Twelve training and two test images, with file names of this form, or none."""
    splits = []
    for part, count in (("train", 12), ("test", 2)):
        names = None if files is None else np.array([files.format(part, number) for number in range(count)])
        splits.append(Split(torch.zeros(count, 1, 28, 28), torch.arange(count) % 3, 100 + torch.arange(count), names))
    task = replace(task_named("digits3"), class_names=NAMES)
    return Gallery(task, *splits, predicted=np.array([0, 1]))


def drawn(files: str | None) -> Figure:
    mean = np.random.default_rng(0).normal(size=(12, 2))
    figure = draw_example(gallery(files), [PairStatistics("loo", 4, 5, *[mean] * 6)], position=1)
    figure.canvas.draw()
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_every_picture_bears_its_file_s_name():
    test_panel, *panels = drawn("own_images/{}/class/picture {}.png").axes
    assert test_panel.texts[0].get_text() == "…/test/class/picture 1.png"
    assert len(panels) == 10
    for panel in panels:
        index = int(panel.get_title().split("#")[1].rstrip(")")) - 100
        assert panel.texts[0].get_text() in (f"…/class/picture {index}.png", f"…/train/class/picture {index}.png")


def test_examples_without_files_are_drawn_as_before():
    assert not any(".png" in text for text in texts(drawn(None)))


@pytest.mark.parametrize("files", ["$x^{{{}{}.png", "漢字/{}{}.png", "a\\b_{}{}.png", "%{}{}.png"])
def test_names_and_classes_of_any_letters_are_drawn_without_a_warning(files: str):
    drawn(files)


def test_letters_that_the_font_lacks_are_marked():
    assert drawable("größe 漢字.png") == "größe ??.png"


def test_long_names_lose_their_first_folders_and_then_their_beginning():
    assert shortened_file("a/b.png", 10) == "a/b.png"
    assert shortened_file("images/train/cat/0017.png", 16) == "…/cat/0017.png"
    assert shortened_file("images/a_very_long_name_0017.png", 12) == "…me_0017.png"
    for name in ("a" * 40, "a/" * 20, "/" + "b" * 40):
        assert len(shortened_file(name, 12)) <= 12
