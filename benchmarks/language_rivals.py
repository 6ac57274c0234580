"""TRAK and EK-FAC of a GPT-2 by this project and by bergson, kronfluence and dattri: same model, same texts, same parameters.

Needs benchmarks/requirements.txt and data/webnlg. A GPT-2 of transformers with random weights, which are no matter to time, and
blocks of consecutive tokens of WebNLG's sentences, all of one length, so that nobody pads. Every contender reads the same
folder and attributes to the weights and biases of the linear layers of all blocks. What would take hours runs on fewer texts,
and its seconds are scaled; what does not fit is said. Writes benchmarks/results/language_rivals_<layers>x<width>.json.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import common
import language_contenders
import numpy as np
from common import in_child, relative_error, rounded, with_ratios
from language_contenders import VOCABULARY

PACKAGES = ("transformers", "bergson", "kronfluence", "dattri")


@dataclass
class Settings:
    """The constants to edit."""

    layers: int = 12
    """Blocks of the model: 12 of width 768 are GPT-2 small but for its vocabulary."""
    width: int = 768
    """Of a token's vector, a multiple of 64, the width of an attention's head."""
    num_train: int = 64
    """Training texts."""
    num_test: int = 16
    """Test texts."""
    length: int = 64
    """Tokens of a text."""
    dimension: int = 2048
    """Of TRAK's projections."""
    few: int = 8
    """Training texts for what is scaled, twice as many as test texts."""
    repeats: int = 3
    """Runs of this project, after one untimed run; the others run once, after none where a run takes minutes."""
    contenders: str = "all"
    """Which of the rivals run: all, or names of them with commas."""
    work: str = "trak,inner,ekfac"
    """What is measured; the rest is kept from the file that an earlier run of the same device and versions wrote."""


def write_model(folder: Path, layers: int, width: int) -> int:
    """A GPT-2 and its tokenizer, as save_pretrained writes them; returns how many parameters are attributed to."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"n_embd": width, "n_layer": layers, "n_head": width // 64, "n_positions": 1024}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, bos_token_id=1, eos_token_id=1))
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=language_contenders.tokenizer(), eos_token="<|end|>")
    tokenizer.model_max_length = 1024
    tokenizer.save_pretrained(folder)
    return sum(model.get_parameter(name).numel() for name in language_contenders.attributed(model))


def write_texts(folder: Path, num_train: int, num_test: int, length: int) -> None:
    """Blocks of consecutive tokens (n, length): train.npy and test.npy."""
    from tda.data.tasks import task_named

    encode = language_contenders.tokenizer().encode_batch
    for part, count in (("train", num_train), ("test", num_test)):
        sentences = task_named("webnlg").load(part).examples[: 4 * count * length // 10]
        tokens = np.concatenate([found.ids for found in encode(list(sentences))])
        np.save(folder / f"{part}.npy", tokens[: count * length].reshape(count, length))


@dataclass(frozen=True)
class Rival:
    """A contender: which, in what words, on how many training and test texts, and by how much its seconds are scaled."""

    name: str
    label: str
    texts: tuple[int, int]
    scale: float = 1.0
    note: str = ""


def rivals_of(settings: Settings) -> dict[str, list[Rival]]:
    """The rivals of each method. What grows with the texts on both sides is scaled by their sum, as forward passes do."""
    whole, few = (settings.num_train, settings.num_test), (settings.few, settings.few // 2)
    scaled = {"scale": sum(whole) / sum(few), "note": f"{few[0]} x {few[1]} of {whole[0]} x {whole[1]} texts"}
    return {
        "trak": [
            Rival("bergson_trak", "bergson, trak", few, **scaled),
            Rival("dattri_trak", "dattri, TRAKAttributor", few, **scaled),
        ],
        "inner": [
            Rival("bergson_index", "bergson, index of 16 x 16 numbers a layer", whole),
            Rival("bergson_inner", "bergson, whole gradients", few, **scaled),
        ],
        "ekfac": [
            Rival("bergson_ekfac", "bergson, ekfac", whole),
            Rival("kronfluence_ekfac", "kronfluence, ekfac", whole),
            Rival("dattri_ekfac", "dattri, IFAttributorEKFAC", few, **scaled),
        ],
    }


def compare(settings: Settings, folder: Path, method: str, rivals: list[Rival]) -> dict:
    """Rows of this project and of each rival, with its scores' relative difference and rank correlation on the texts it ran."""
    shared = {"folder": str(folder), "dimension": settings.dimension}
    mine = {}

    def ours(texts: tuple[int, int], repeats: int) -> common.Measured:
        if texts not in mine:
            mine[texts] = in_child(f"our_{method}", texts=texts, repeats=repeats, **shared)
        return mine[texts]

    whole = ours((settings.num_train, settings.num_test), settings.repeats)
    rows = [whole.row("this project")]
    for rival in rivals:
        try:
            found = in_child(rival.name, texts=rival.texts, repeats=1, **shared)
        except RuntimeError as error:
            rows.append({"contender": rival.label, "failed": str(error).strip().splitlines()[-1][:300]})
            continue
        expected = ours(rival.texts, 1).arrays["scores"]
        rows.append(found.row(rival.label, rival.scale, rival.note) | agreement(found.arrays["scores"], expected))
    return with_ratios([row for row in rows if "failed" not in row]) | {"failed": [row for row in rows if "failed" in row]}


def agreement(found: np.ndarray, expected: np.ndarray) -> dict:
    """Pearson's and Spearman's correlation over all pairs, and the relative difference after the best common factor."""
    from scipy.stats import spearmanr

    found, expected = found.ravel().astype(float), expected.ravel().astype(float)
    factor = float(found @ expected / (found @ found))
    return {
        "factor": rounded(factor),
        "relative_difference": relative_error(factor * found, expected),
        "correlation": rounded(float(np.corrcoef(found, expected)[0, 1]), 4),
        "rank_correlation": rounded(float(spearmanr(found, expected).statistic), 4),
    }


def main(settings: Settings) -> str:
    """Measure and write the result."""
    from tempfile import TemporaryDirectory

    from tda.system.errors import UserError

    known = rivals_of(settings)
    for work in settings.work.split(","):
        if work not in known:
            raise UserError(f"unknown --work {work}; known are {', '.join(known)}")
    with TemporaryDirectory(prefix="tda-benchmark-") as temporary:
        folder = Path(temporary)
        parameters = write_model(folder, settings.layers, settings.width)
        write_texts(folder, settings.num_train, settings.num_test, settings.length)
        name = f"language_rivals_{settings.layers}x{settings.width}"
        content = common.earlier(name, "cpu", PACKAGES) | {"attributed_parameters": parameters, "vocabulary": VOCABULARY}
        for method, rivals in known.items():
            if method not in settings.work.split(","):
                continue
            chosen = [rival for rival in rivals if settings.contenders == "all" or rival.name in settings.contenders.split(",")]
            content[method] = compare(settings, folder, method, [replace(rival) for rival in chosen])
    return f"wrote {common.write_result(name, 'cpu', content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
