"""Panels of maps: what colour and which opacity a value gets, and where a frame lies."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tda.figures.panels import colour_scale, grid, outline, pixels, show_overlay, show_signed, title


def test_pixels_are_those_before_normalisation_in_three_channels():
    image = torch.tensor([[[0.0, 2.0], [-2.0, 1.0]]])
    expected = np.array([[0.5, 1.0], [0.0, 0.75]])[..., None].repeat(3, axis=2)
    np.testing.assert_allclose(pixels(image, mean=[0.5], std=[0.25]), expected)
    coloured = pixels(torch.zeros(3, 1, 1), mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    np.testing.assert_allclose(coloured, [[[0.1, 0.2, 0.3]]])


def test_an_overlay_has_full_colour_at_its_own_largest_values():
    panel, image = Figure().subplots(), np.full((2, 2, 3), 0.5)
    show_overlay(panel, image, np.array([[0.0, 1.0], [2.0, 4.0]]))
    below, heat = panel.images
    np.testing.assert_allclose(below.get_array(), 0.35 + 0.65 * 0.5 * (0.299 + 0.587 + 0.114))
    largest = np.quantile([0.0, 1, 2, 4], 0.995)
    np.testing.assert_allclose(heat.get_array(), [[0, 1 / largest], [2 / largest, 1]])
    assert heat.get_cmap()(0.0)[3] == 0 and heat.get_cmap()(1.0)[3] == 1


def test_a_signed_map_is_symmetric_about_zero():
    panel = Figure().subplots()
    show_signed(panel, np.zeros((1, 3, 3)), np.array([[-2.0, 0.0, 1.0]]))
    _, signed = panel.images
    largest = np.quantile([2.0, 0, 1], 0.995)
    np.testing.assert_allclose(signed.get_array(), [[-1, 0, 1 / largest]])
    np.testing.assert_allclose(signed.get_alpha(), [[1, 0, 1 / largest]])
    assert signed.get_clim() == (-1, 1)


@pytest.mark.parametrize("show", [show_overlay, show_signed])
def test_a_map_of_zero_is_drawn_without_a_warning(show):
    panel = Figure().subplots()
    show(panel, np.zeros((2, 2, 3)), np.zeros((2, 2)))
    assert not panel.images[1].get_array().any()


def test_a_frame_lies_around_the_region():
    panel, region = Figure().subplots(), np.zeros((6, 8), dtype=bool)
    region[1:4, 5:7] = True
    outline(panel, region)
    (frame,) = panel.patches
    assert frame.get_xy() == (4.5, 0.5) and (frame.get_width(), frame.get_height()) == (2, 3)


def test_a_grid_has_as_many_panels_without_axes():
    figure, panels = grid(2, 3)
    assert panels.shape == (2, 3) and len(figure.axes) == 6 and not any(panel.axison for panel in figure.axes)


@pytest.mark.parametrize(
    "text", ["test #2098: automobile", "an aircraft_with_an_endless_name and more", "short\nread as automobile"]
)
def test_titles_are_no_wider_than_their_panels(text: str):
    figure, panels = grid(1, 3)
    for panel in panels.flat:
        panel.imshow(np.zeros((2, 2)))
        title(panel, text)
    figure.canvas.draw()
    widths = [panel.title.get_window_extent().width / figure.dpi for panel in panels.flat]
    assert max(widths) <= 1.15 + 0.02
    assert panels[0, 0].get_title().startswith(text[:2])


@pytest.mark.parametrize(("kind", "ends"), [("absolute", (0, 1)), ("signed", (-1, 1)), ("ratio", (0, 5))])
def test_a_colour_scale_says_what_colours_stand_for(kind: str, ends: tuple[int, int]):
    figure, panels = grid(1, 2)
    colour_scale(figure, panels[0], kind)
    scale = figure.axes[-1]
    assert scale.get_ylim() == ends and scale.get_ylabel()
    # What is brighter than this has the last colour too.
    assert ("99.5th percentile" in scale.get_ylabel()) == (kind != "ratio")
