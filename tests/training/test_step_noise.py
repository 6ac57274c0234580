"""What a training step draws: the same for the same seed and step, and nothing in evaluation mode."""

import threading

import pytest
import torch
from torch import nn

from tda.models.seeded_dropout import SeededDropout
from tda.system.random_streams import stream_seed
from tda.training.step_noise import StepNoise

CPU = torch.device("cpu")


def dropped(seed: int, step: int, inputs: torch.Tensor, p: float = 0.25) -> torch.Tensor:
    layers = nn.Sequential(SeededDropout(p), nn.Identity())
    with StepNoise(seed, step).applied_to(layers, CPU):
        return layers(inputs)


def test_mask_comes_from_the_seed_and_the_step_alone():
    inputs = torch.ones(400, 50)
    torch.manual_seed(0)
    found = dropped(3, 7, inputs)
    torch.manual_seed(1)
    assert torch.equal(found, dropped(3, 7, inputs))
    assert not torch.equal(found, dropped(3, 8, inputs)) and not torch.equal(found, dropped(4, 7, inputs))
    generator = torch.Generator().manual_seed(stream_seed(3, "dropout of step 7"))
    kept = torch.rand(400, 50, generator=generator) >= 0.25
    torch.testing.assert_close(found, kept / 0.75)
    assert kept.double().mean() == pytest.approx(0.75, abs=0.02)


def test_evaluation_drops_nothing_and_gradients_pass():
    inputs = torch.ones(5, 4, requires_grad=True)
    layer = SeededDropout(0.5)
    assert layer.eval()(inputs) is inputs and SeededDropout(0.0).train()(inputs) is inputs
    found = dropped(0, 1, inputs, p=0.5)
    (gradient,) = torch.autograd.grad(found.sum(), inputs)
    assert torch.equal(gradient, found.detach())


def test_threads_do_not_disturb_each_other():
    inputs, found = torch.ones(1000, 100), {}
    threads = [threading.Thread(target=lambda s=s: found.update({s: dropped(s, 1, inputs)})) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[seed], dropped(seed, 1, inputs)) for seed in range(4))


def test_crops_are_parts_of_the_image_brought_to_its_size():
    row = torch.linspace(0, 1, 28)
    images = row.expand(6, 1, 28, 28)
    noise = StepNoise(5, 2, random_crop=True)
    found = noise.cropped(images)
    assert found.shape == images.shape and torch.equal(found, noise.cropped(images))
    assert not torch.equal(found, StepNoise(5, 3, random_crop=True).cropped(images))
    # A crop of a ramp is a ramp, flatter and within the same bounds; every image has a crop of its own.
    slopes = found[:, 0, 14, 20] - found[:, 0, 14, 8]
    assert (slopes > 0).all() and (slopes < row[20] - row[8] + 1e-6).all() and len(set(slopes.tolist())) == 6
    assert found.min() >= 0 and found.max() <= 1
    assert StepNoise(5, 2).cropped(images) is images


def test_pictures_beside_texts_are_cropped_and_token_ids_are_not():
    pictures = torch.linspace(0, 1, 28).expand(6, 1, 28, 28)
    both = {"pixel_values": pictures, "input_ids": torch.arange(24).view(6, 4)}
    noise = StepNoise(5, 2, random_crop=True)
    found = noise.cropped(both)
    assert torch.equal(found["pixel_values"], noise.cropped(pictures)) and torch.equal(found["input_ids"], both["input_ids"])


def test_precision_is_that_of_the_step():
    layer = nn.Linear(4, 2)
    for mixed, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with StepNoise(0, 1, mixed_precision=mixed).applied_to(layer, CPU):
            assert layer(torch.ones(1, 4)).dtype == dtype
