"""From a plan to checkpoints: one step, many models at once, members, ensembles, retrainings."""
