"""The sign of every score."""

SIGN = "positive = helpful: without this training example the test loss would be higher"
