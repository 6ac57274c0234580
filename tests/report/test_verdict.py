"""The verdict's sentences follow the numbers."""

import pytest

from tda.report.verdict import percent, removal_in_words, verdict

ROWS = {
    "loo": {"share_reliable": 0.5, "with_loo": None, "lds": None},
    "if": {"share_reliable": 0.9, "with_loo": 0.8, "lds": 0.4},
    "trak": {"share_reliable": 0.6, "with_loo": 0.7, "lds": 0.5},
    "repdot": {"share_reliable": 1.0, "with_loo": 0.06, "lds": None},
}
HELPFUL = {"loo", "if", "trak"}


def test_three_sentences_say_what_the_numbers_say():
    first, second, third = verdict(ROWS, HELPFUL, 4500, 10, 0.89, (12, 150))
    assert first.startswith("Over 10 seeds, 90.0 % of 4,500 pairs can be told from noise by IF (q < 0.05), and 50.0 % by LOO")
    assert first.endswith(", the least reliable of 3.")
    assert "IF agree best with leave-one-out (rank correlation 0.80)" in second and "foretold by TRAK (LDS 0.50)" in second
    assert "RepDot is reliable for all of the pairs and agrees at 0.06" in second
    assert "agree with each other" in third and "0.89" in third and "12 of 150 test examples" in third


def test_what_is_not_known_is_said_to_be_so():
    rows = {"if": {"share_reliable": 0.0, "with_loo": None, "lds": None}}
    first, second, third = verdict(rows, {"if"}, 10, 3, None, (0, 5))
    assert first == "Over 3 seeds, none of 10 pairs can be told from noise by IF (q < 0.05)."
    assert "not known here" in second and third.startswith("No test example has")


def test_of_equally_reliable_methods_none_is_called_the_least():
    rows = {name: ROWS["if"] | {"share_reliable": 0.0} for name in ("if", "trak")}
    first = verdict(rows, HELPFUL, 10, 3, None, (0, 5))[0]
    assert first == "Over 3 seeds, none of 10 pairs can be told from noise by IF (q < 0.05), as by every method that is judged."


@pytest.mark.parametrize(("between", "word"), [(0.3, "agree little"), (0.1, "hardly agree"), (-0.4, "hardly agree")])
def test_how_far_methods_agree_has_words(between: float, word: str):
    assert word in verdict(ROWS, HELPFUL, 10, 3, between, (0, 5))[2]


def test_methods_that_mean_alike_are_shown_where_there_are_no_others():
    rows = {"repdot": ROWS["repdot"], "repsim": ROWS["repdot"] | {"share_reliable": 0.5}}
    assert "by RepDot (q < 0.05), and 50.0 % by RepSim" in verdict(rows, set(), 10, 3, 0.2, (0, 5))[0]


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.9999, "more than 99.9 %"),
        (0.0001, "less than 0.1 %"),
        (1.0, "all"),
        (0.0, "none"),
        (0.999, "99.9 %"),
        (0.5, "50.0 %"),
    ],
)
def test_a_share_is_all_or_none_only_where_it_is(share: float, words: str):
    assert percent(share) == words


def test_methods_that_are_the_same_for_every_seed_are_not_called_reliable():
    row = {"share_reliable": None, "with_loo": None, "lds": 0.4}
    first, second, _ = verdict({"datamodels": row}, {"datamodels"}, 10, 3, None, (0, 5))
    assert "the same for all 3 seeds" in first and "LDS 0.40" in second
    both = verdict({"datamodels": row, "if": ROWS["if"]}, {"datamodels", "if"}, 10, 3, None, (0, 5))[0]
    assert both.startswith("Over 3 seeds, 90.0 % of 10 pairs can be told from noise by IF")


def test_what_leaving_examples_out_does_is_said():
    rows = [
        {"method": "oracle", "title": "texts that state it", "fall": (9.0, 8.0, 10.0)},
        {"method": "trak", "title": "TRAK", "fall": (7.5, 3.125, 13.25)},
        {"method": "bm25", "title": "BM25", "fall": (6.0, 2.0, 9.0)},
        {"method": "repsim", "title": "RepSim", "fall": None},
    ]
    words = removal_in_words("an answer", " nats", 3, rows)
    assert words == "leaving out TRAK's 3 highest costs an answer most, 7.5 nats [3.12, 13.2]"
    alone = {"grad_cos": {"share_reliable": 0.1, "with_loo": None, "lds": None}}
    assert verdict(alone, {"grad_cos"}, 10, 3, None, (0, 5), words)[1] == f"L{words[1:]}."
    assert removal_in_words("an answer", " nats", 3, [rows[0], rows[3]]) is None
