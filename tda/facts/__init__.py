"""Which training texts a language model's statements come from: facts that it is asked for, and single continuations."""
