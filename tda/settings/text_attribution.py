"""Constants and arguments of the step that attributes a language model's continuation to training texts."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class TextAttribution(OfSeeds):
    """Which prompt, which continuation, by which methods; or which checkpoint of one's own with which texts."""

    prompt: str
    """The text that the model continues."""
    continuation: str | None = None
    """The continuation to explain; without it the model's own, by greedy decoding: what most seeds say."""
    most_tokens: int
    """Tokens of the model's own continuation at most."""
    methods: tuple[str, ...]
    """Methods to attribute by, such as grad_cos,trak; bm25 and embedding_similarity read the texts alone."""
    num_texts: int
    """Training texts to show that help, and as many that oppose."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints."""
    base: tuple[str, ...] = ()
    """Causal language models of one's own instead of an experiment's: folders that save_pretrained wrote, or hub names."""
    texts: str | None = None
    """With --base, the training texts: a file .csv, .jsonl, .parquet or .txt, or a folder of .txt files."""
    column: str
    """The column of the texts in such a file."""
    length: int
    """Tokens of a text of one's own at most."""
