"""Streams of randomness that a seed fixes."""

import torch

from tda.system.random_streams import stream, stream_seed


def test_streams_of_one_seed_are_separate_and_fixed():
    purposes = ["initialisation", "batch order", "lissa batches"]
    drawn = [torch.rand(5, generator=stream(7, purpose)).tolist() for purpose in purposes]
    assert len({tuple(numbers) for numbers in drawn}) == 3
    assert drawn[0] == torch.rand(5, generator=stream(7, "initialisation")).tolist()
    assert len({stream_seed(seed, purpose) for seed in range(100) for purpose in purposes}) == 300
    # Ensembles on disk were trained with these numbers.
    assert [stream_seed(0, purpose) for purpose in purposes[:2]] == [4786909632162015820, 3785225260989819299]
