"""Score files, and the one score of an ensemble."""
