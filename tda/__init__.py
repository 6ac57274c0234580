"""Training data attribution whose trustworthiness is measured: one ensemble, many methods, statistics over seeds."""
