"""Tokens' shares: they sum to the score, and are refused where the score is no sum over tokens."""

import numpy as np

from tda.facts.token_shares import token_shares


def test_a_mean_over_tokens_is_shared_out_exactly():
    of_tokens = np.random.default_rng(0).normal(size=(4, 7))
    whole = of_tokens.mean(axis=1)
    shares = token_shares(whole, of_tokens)
    np.testing.assert_allclose(shares, of_tokens / 7)
    np.testing.assert_allclose(shares.sum(axis=1), whole, rtol=1e-12)


def test_a_cosine_is_shared_out_by_the_part_of_each_token():
    generator = np.random.default_rng(1)
    tokens, texts = generator.normal(size=(3, 6)), generator.normal(size=(20, 6))

    def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return left @ right / np.linalg.norm(left, axis=1) / np.linalg.norm(right)

    mean = tokens.mean(axis=0)
    shares = token_shares(cosine(texts, mean), np.stack([cosine(texts, token) for token in tokens], axis=1))
    expected = texts @ tokens.T / 3 / np.linalg.norm(texts, axis=1)[:, None] / np.linalg.norm(mean)
    np.testing.assert_allclose(shares, expected, rtol=1e-8)


def test_what_is_no_sum_over_tokens_has_no_shares():
    generator = np.random.default_rng(2)
    assert token_shares(generator.normal(size=30), generator.normal(size=(30, 4))) is None
    alike = np.repeat(generator.normal(size=(30, 1)), 4, axis=1)
    assert token_shares(alike[:, 0], alike) is None
    # With as many tokens as texts, any score is some combination; that says nothing.
    assert token_shares(generator.normal(size=4), generator.normal(size=(4, 4))) is None


def test_a_single_token_has_everything():
    whole = np.array([1.0, -2.0])
    assert token_shares(whole, whole[:, None]).tolist() == [[1.0], [-2.0]]
