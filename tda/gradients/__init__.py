"""Per-example gradients of any model: the recorded pass, the formulas of its layers, rows, kernels and projections."""
