"""Model families: how a model is built and trained. Nothing outside this package knows one family from another."""
