"""Products with a loss's curvature, solvers, and factors of it."""
