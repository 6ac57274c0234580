"""The page that a person opens: one file with the results of an experiment; it reads results, and computes no score."""
