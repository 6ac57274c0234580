"""What score arrays say: p-values, correlations, the linear datamodeling score, intervals."""
