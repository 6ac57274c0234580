"""Tasks, the kinds of input they have, where their examples come from, and the splits that are drawn of them."""
