"""Pictures of single attributions: the numbers beside an example, and the example as its kind shows it to a person."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tiny_texts import CLASSES, TOKENS, encode

from tda.data.kinds import ImageKind, ImageTextKind
from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.figures.examples import Gallery, draw_example
from tda.statistics.pair_statistics import PairStatistics
from tda.system.inputs import chosen

TEXTS = ["the cat sleeps fast well here", "a dog runs", "the bird sings now"]
PREDICTED = np.array([0, 1, 2, 0, 1, 1])


def random_statistics(num_train: int = 12, num_test: int = 6) -> PairStatistics:
    generator = np.random.default_rng(0)
    mean, q_value = generator.normal(size=(num_train, num_test)), generator.random((num_train, num_test))
    return PairStatistics("loo", 4, 5, mean, np.ones_like(mean), np.ones_like(mean), q_value, q_value, q_value)


def gallery_of_images(task_name: str) -> Gallery:
    task, generator = task_named(task_name), torch.Generator().manual_seed(0)
    shape = (task.kind.channels, task.kind.size, task.kind.size)
    splits = [
        Split(torch.randn(count, *shape, generator=generator), torch.arange(count) % 3, 100 + torch.arange(count))
        for count in (12, 6)
    ]
    return Gallery(task, *splits, predicted=PREDICTED)


def written(figure: Figure) -> list[str]:
    """Every text of a figure: those of the test example, two headings and the method's name, then those of its examples."""
    (canvas,) = figure.axes
    return [text.get_text() for text in canvas.texts]


def texts(count: int) -> dict[str, torch.Tensor]:
    """Texts in turn."""
    return chosen(encode(TEXTS), torch.arange(count) % 3)


def test_an_example_shows_its_numbers_and_the_images_before_normalisation():
    gallery, method = gallery_of_images("cifar10"), random_statistics()
    figure = draw_example(gallery, [method], position=5)
    pixels = gallery.test.inputs[5].numpy().transpose(1, 2, 0) * 0.5 + 0.5
    shown = figure.axes[0].images
    np.testing.assert_allclose(shown[0].get_array(), pixels.clip(0, 1), atol=1e-6)
    best = int(method.mean[:, 5].argmax())
    pixels = gallery.train.inputs[best].numpy().transpose(1, 2, 0) * 0.5 + 0.5
    np.testing.assert_allclose(shown[1].get_array(), pixels.clip(0, 1), atol=1e-6)
    test_heading, test_caption, helpful, harmful, title, heading, caption, *_ = written(figure)
    assert (test_heading, test_caption) == ("test #105", "class: bird\npredicted: automobile")
    assert helpful.startswith("most helpful") and harmful.startswith("most harmful") and title == "LOO"
    assert heading == f"{gallery.task.class_names[best % 3]} (#{100 + best})"
    assert caption == (f"mean {method.mean[best, 5]:.3g}\nstd {method.std[best, 5]:.3g}\nq {method.q_value[best, 5]:.3g}")


def test_a_grey_image_is_drawn_on_the_scale_from_black_to_white():
    gallery = gallery_of_images("digits3")
    image = draw_example(gallery, [random_statistics()], position=0).axes[0].images[0]
    assert image.cmap.name == "gray" and image.get_clim() == (0, 1)
    np.testing.assert_allclose(image.get_array(), gallery.test.inputs[0, 0].clamp(0, 1), atol=1e-6)


def test_an_example_of_a_text_task_is_shown_as_its_text():
    train, test = (Split(texts(count), torch.arange(count) % 3, 100 + torch.arange(count)) for count in (12, 6))
    method = random_statistics()
    figure = draw_example(Gallery(CLASSES, train, test, PREDICTED), [method], position=3)
    assert not figure.axes[0].images
    text, heading, caption, *_ = written(figure)
    # A line holds 24 characters.
    assert text == "the cat sleeps fast well\nhere" and heading == "test #103" and caption == "class: cat\npredicted: cat"
    best = int(method.mean[:, 3].argmax())
    text, heading, caption = written(figure)[6:9]
    assert text.replace("\n", " ") == TEXTS[best % 3] and heading == f"{CLASSES.class_names[best % 3]} (#{100 + best})"
    assert caption.startswith(f"mean {method.mean[best, 3]:.3g}\n")


def test_a_long_text_is_cut_and_a_dollar_is_no_formula():
    kind = replace(CLASSES.kind, decode=lambda tokens: "costs $5 or $6 " + "and so on " * 40)
    splits = [Split(texts(count), torch.zeros(count, dtype=torch.int64), torch.arange(count)) for count in (12, 6)]
    figure = draw_example(Gallery(replace(CLASSES, kind=kind), *splits, PREDICTED), [random_statistics()], position=0)
    figure.canvas.draw()
    text = figure.axes[0].texts[0]
    assert text.get_text().startswith("costs $5 or $6 and so on") and text.get_text().endswith("…")
    assert len(text.get_text()) <= 190 and not text.get_parse_math()


def test_an_example_of_a_language_model_has_no_label_in_words():
    train, test = (
        Split(inputs, TOKENS.objective.labels(inputs, None), 100 + torch.arange(count))
        for count, inputs in ((count, texts(count)) for count in (12, 6))
    )
    right = test.labels.clone()
    right[4, 2] = 0
    gallery = Gallery(TOKENS, train, test, predicted=right.numpy())
    assert gallery.wrong.tolist() == [False, False, False, False, True, False]
    method = random_statistics()
    found = written(draw_example(gallery, [method], position=4))
    assert found[:3] == ["a dog runs", "test #104", ""]
    assert found[7] == f"(#{100 + int(method.mean[:, 4].argmax())})"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_with_a_text_shows_both(channels: int):
    image = ImageKind(channels, 4, mean=(0.5,) * channels, std=(0.25,) * channels)
    task = replace(CLASSES, kind=ImageTextKind(image, CLASSES.kind))
    generator = torch.Generator().manual_seed(0)
    train, test = (
        Split(
            {"pixel_values": torch.randn(count, channels, 4, 4, generator=generator), **texts(count)},
            torch.arange(count) % 3,
            torch.arange(count),
        )
        for count in (12, 6)
    )
    panel = draw_example(Gallery(task, train, test, PREDICTED), [random_statistics()], position=1).axes[0]
    expected = (test.inputs["pixel_values"][1] * 0.25 + 0.5).clamp(0, 1).permute(1, 2, 0).squeeze(2)
    np.testing.assert_allclose(panel.images[0].get_array(), expected, atol=1e-6)
    assert panel.texts[0].get_text() == "a dog runs"


def test_a_picture_says_why_it_was_chosen_and_keeps_methods_apart_whose_sign_means_alike():
    gallery, methods = (
        gallery_of_images("digits3"),
        [replace(random_statistics(), method=name) for name in ("repsim", "loo", "repdot")],
    )
    figure = draw_example(gallery, methods, position=0, reason="the most reliably explained test example")
    found = [text for text in figure.axes[0].texts if text.get_text()]
    places = {text.get_text(): text.get_position()[1] for text in found}
    assert "Chosen as the most reliably explained test example." in places
    order = [
        places[name]
        for name in ("most helpful: the test loss would be higher without it", "LOO", "most alike, which need not help")
    ]
    assert order == sorted(order) and order[-1] < places["RepSim"] < places["RepDot"]
    lowest = max(text.get_position()[1] for text in found)
    assert lowest < figure.get_size_inches()[1]
