"""The contenders of language_rivals.py, each as its library's documents say; all read the same GPT-2 and blocks of tokens."""

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from common import Outcome, contender, repeat
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 4096
RELATIVE_DAMPING = 0.1
TEXTS_AT_ONCE = 16


def tokenizer():
    """The task's own, of VOCABULARY tokens."""
    from tda.data.tasks import task_named
    from tda.data.tokenizers import trained_tokenizer

    return trained_tokenizer("webnlg", lambda: list(task_named("webnlg").load("train").examples), VOCABULARY)


def attributed(model: nn.Module) -> list[str]:
    """Weights and biases of the linear layers of all blocks."""
    names = [name for name, _ in model.named_parameters() if name.startswith("transformer.h.")]
    return [name for name in names if ".ln_" not in name]


def _loaded(folder: str, linear: bool = False) -> nn.Module:
    """The model, in float32; linear: with torch's own linear layers, which not every library knows by another name."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    if linear:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child).__name__ == "Conv1D":
                    layer = nn.Linear(*child.weight.shape)
                    layer.weight.data, layer.bias.data = child.weight.data.T.contiguous(), child.bias.data
                    setattr(parent, name, layer)
    chosen = set(attributed(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return model


def _texts(folder: str, texts: tuple[int, int]) -> list[Tensor]:
    parts = zip(("train", "test"), texts, strict=True)
    return [torch.from_numpy(np.load(Path(folder) / f"{part}.npy")[:count]) for part, count in parts]


def _batches(tokens: Tensor) -> list[dict[str, Tensor]]:
    names = ("input_ids", "attention_mask", "labels")
    return [dict(zip(names, (part, torch.ones_like(part), part), strict=True)) for part in tokens.split(TEXTS_AT_ONCE)]


def _mean_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each text (n,)."""
    losses = functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.view(len(tokens), -1).mean(dim=1)


@contender
def our_trak(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """TRAKer's program: features of the training texts, then scores of the test texts."""
    from tda.trak import TRAKer

    model, (train, test) = _loaded(folder), _texts(folder, texts)

    def work() -> np.ndarray:
        with tempfile.TemporaryDirectory() as save_dir:
            traker = TRAKer(
                model,
                "language_modeling",
                len(train),
                save_dir,
                device="cpu",
                proj_dim=dimension,
                logging_level=logging.ERROR,
            )
            traker.load_checkpoint(model.state_dict(), 0)
            for batch in _batches(train):
                traker.featurize(batch, num_samples=len(batch["labels"]))
            traker.finalize_features()
            traker.start_scoring_checkpoint("test", model.state_dict(), 0, len(test))
            for batch in _batches(test):
                traker.score(batch, num_samples=len(batch["labels"]))
            return np.array(traker.finalize_scores("test"))

    seconds, scores = repeat(work, repeats)
    return Outcome(seconds, {"scores": scores})


@contender
def our_inner(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """Inner products of the gradients of the mean loss, exactly."""
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.gradients.objectives import NextToken

    model, (train, test) = _loaded(folder), _texts(folder, texts)
    work = lambda: gradient_kernel(model, (test, test), (train, train), NextToken().loss).cross.T  # noqa: E731
    seconds, scores = repeat(work, repeats)
    return Outcome(seconds, {"scores": scores.numpy()})


@contender
def our_ekfac(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """What the method ekfac does, with the training labels: --ekfac.matrix empirical_fisher."""
    from tda.data.splits import Split
    from tda.gradients.objectives import NextToken
    from tda.methods.ekfac import scores_by_ekfac

    member = SimpleNamespace(model=_loaded(folder), objective=NextToken(), seed=0, epoch=0)
    train, test = (Split(tokens, tokens, torch.arange(len(tokens))) for tokens in _texts(folder, texts))
    work = lambda: scores_by_ekfac(member, train, test, "empirical_fisher", None).scores  # noqa: E731
    seconds, scores = repeat(work, repeats, warm_up=int(repeats > 1))
    return Outcome(seconds, {"scores": scores.numpy()})


def _bergson_index(folder: str, run_path: str, part: str, **options: object):
    """Settings of a run of bergson over one part of the texts."""
    from bergson import DataConfig, IndexConfig

    data = DataConfig(dataset=str(Path(folder) / f"{part}.hf"))
    shared = {"precision": "fp32", "include_bias": True, "loss_reduction": "mean", "token_batch_size": 1024}
    return IndexConfig(run_path=run_path, model=folder, data=data, **shared | options)


def _write_datasets(folder: str, texts: tuple[int, int]) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    for part, tokens in zip(("train", "test"), _texts(folder, texts), strict=True):
        Dataset.from_dict({"input_ids": tokens.tolist(), "length": [tokens.shape[1]] * len(tokens)}).save_to_disk(
            str(Path(folder) / f"{part}.hf")
        )


def _bergson(folder: str, texts: tuple[int, int], repeats: int, run) -> Outcome:
    """A run of bergson's (run_path) -> folder of scores, which are read from its file."""
    from datasets import disable_progress_bars

    disable_progress_bars()
    _write_datasets(folder, texts)

    def work() -> np.ndarray:
        with tempfile.TemporaryDirectory() as run_path, contextlib.redirect_stdout(io.StringIO()):
            return _bergson_scores(Path(run(str(Path(run_path) / "run"))))

    seconds, scores = repeat(work, repeats, warm_up=0)
    return Outcome(seconds, {"scores": scores})


def _bergson_scores(folder: Path) -> np.ndarray:
    """(n_train, n_test) of a folder that bergson's score step wrote."""
    import json

    info = json.loads((folder / "info.json").read_text())
    found = np.memmap(folder / "scores.bin", dtype=info["dtype"], mode="r", shape=(info["num_rows"],))
    return np.stack([np.array(found[f"score_{query}"], dtype=float) for query in range(info["num_scores"])], axis=1)


@contender
def bergson_ekfac(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """Its pipeline: gradients of the queries, factors, their inverse, scores; empirical Fisher matrix, its usual damping."""
    from bergson import PreprocessConfig, QuerySetConfig, ScoreConfig
    from bergson.config.config import HessianConfig, HessianPipelineConfig
    from bergson.hessians.pipeline import hessian_pipeline

    def run(run_path: str) -> str:
        query = QuerySetConfig(dataset=str(Path(folder) / "test.hf"))
        hessian = HessianConfig(method="kfac", ev_correction=True, use_dataset_labels=True)
        index = _bergson_index(folder, run_path, "train")
        hessian_pipeline(index, hessian, ScoreConfig(), PreprocessConfig(), HessianPipelineConfig(query=query))
        return f"{run_path}/scores"

    return _bergson(folder, texts, repeats, run)


@contender
def bergson_trak(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """Its pipeline for one checkpoint, with a ridge that is the mean of the kernel's diagonal, as this project's."""
    from bergson import PreprocessConfig, QuerySetConfig
    from bergson.cli.trak import trak
    from bergson.config.config import InversionConfig, TrakConfig

    def run(run_path: str) -> str:
        # Its damping counts in units of the mean of `dimension` eigenvalues, whose sum is that of the kernel's diagonal.
        inversion = InversionConfig(damping_factor=dimension / texts[0])
        query = QuerySetConfig(dataset=str(Path(folder) / "test.hf"))
        chosen = TrakConfig(query=query, preprocess_cfg=PreprocessConfig(inversion_cfg=inversion))
        options = {"projection_dim": dimension, "projection_target": "global", "loss_fn": "log_odds"}
        trak(_bergson_index(folder, run_path, "train", **options), chosen)
        return f"{run_path}/scores"

    return _bergson(folder, texts, repeats, run)


def _bergson_inner(folder: str, texts: tuple[int, int], repeats: int, projection_dim: int) -> Outcome:
    from bergson import PreprocessConfig, QuerySetConfig, ScoreConfig
    from bergson.build import build_query
    from bergson.score.score import score_dataset

    def run(run_path: str) -> str:
        query = _bergson_index(folder, f"{run_path}/query", "test", projection_dim=projection_dim)
        build_query(query, QuerySetConfig(dataset=str(Path(folder) / "test.hf")), PreprocessConfig())
        index = _bergson_index(folder, f"{run_path}/scores", "train", projection_dim=projection_dim)
        score_dataset(index, ScoreConfig(query_path=f"{run_path}/query"), PreprocessConfig())
        return f"{run_path}/scores"

    return _bergson(folder, texts, repeats, run)


@contender
def bergson_index(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """Inner products of gradients that each layer projects to 16 x 16 numbers, its documents' setting."""
    return _bergson_inner(folder, texts, repeats, 16)


@contender
def bergson_inner(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """Inner products of whole gradients."""
    return _bergson_inner(folder, texts, repeats, 0)


@contender
def kronfluence_ekfac(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """Factors and pairwise scores by the Analyzer; empirical Fisher matrix, its heuristic damping."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from torch.utils.data import TensorDataset

    model, (train, test) = _loaded(folder, linear=True), _texts(folder, texts)
    modules = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]

    class Language(Task):
        def compute_train_loss(self, batch: tuple, model: nn.Module, sample: bool = False) -> Tensor:
            return _mean_loss(model(batch[0]).logits, batch[0]).sum()

        def compute_measurement(self, batch: tuple, model: nn.Module) -> Tensor:
            return _mean_loss(model(batch[0]).logits, batch[0]).sum()

        def get_influence_tracked_modules(self) -> list[str]:
            return modules

    task = Language()
    model = prepare_model(model, task)

    def work() -> Tensor:
        with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
            analyzer = Analyzer(
                "benchmark", model, task, cpu=True, output_dir=output, disable_tqdm=True, log_level=logging.ERROR
            )
            arguments = FactorArguments(strategy="ekfac", use_empirical_fisher=True)
            sizes = {"per_device_batch_size": TEXTS_AT_ONCE, "overwrite_output_dir": True}
            analyzer.fit_all_factors("factors", TensorDataset(train), factor_args=arguments, **sizes)
            analyzer.compute_pairwise_scores(
                "scores",
                "factors",
                TensorDataset(test),
                TensorDataset(train),
                per_device_query_batch_size=TEXTS_AT_ONCE,
                per_device_train_batch_size=TEXTS_AT_ONCE,
                score_args=ScoreArguments(damping_factor=None),
                overwrite_output_dir=True,
            )
            return analyzer.load_pairwise_scores("scores")["all_modules"].T

    seconds, scores = repeat(work, repeats, warm_up=0)
    return Outcome(seconds, {"scores": scores.float().numpy()})


def _dattri_task(model: nn.Module, of_one):
    from dattri.task import AttributionTask

    return AttributionTask(loss_func=of_one, model=model, checkpoints=model.state_dict())


@contender
def dattri_trak(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """TRAKAttributor on the mean margin of a text's tokens."""
    from dattri.algorithm.trak import TRAKAttributor
    from torch.utils.data import DataLoader, TensorDataset

    from tda.gradients.objectives import NextToken

    model, (train, test) = _loaded(folder), _texts(folder, texts)
    call = lambda parameters, tokens: torch.func.functional_call(model, parameters, (), {"input_ids": tokens}).logits  # noqa: E731

    def output(parameters: dict[str, Tensor], data: tuple[Tensor]) -> Tensor:
        tokens = data[0][None]
        return NextToken().margin(call(parameters, tokens), tokens)[0]

    def probability(parameters: dict[str, Tensor], data: tuple[Tensor]) -> Tensor:
        tokens = data[0][None]
        return 1 - NextToken().surprise(call(parameters, tokens), tokens)[0]

    attributor = TRAKAttributor(
        task=_dattri_task(model, output),
        correct_probability_func=probability,
        projector_kwargs={"proj_dim": dimension, "proj_max_batch_size": 32, "device": "cpu"},
        layer_name=attributed(model),
        regularization=1e-3,
    )
    loaders = [DataLoader(TensorDataset(tokens), batch_size=TEXTS_AT_ONCE // 4) for tokens in (train, test)]

    def work() -> Tensor:
        with torch.no_grad():
            attributor.cache(loaders[0])
            return attributor.attribute(loaders[1])

    seconds, scores = repeat(work, repeats, warm_up=0)
    return Outcome(seconds, {"scores": scores.detach().numpy()})


@contender
def dattri_ekfac(folder: str, texts: tuple[int, int], repeats: int, dimension: int) -> Outcome:
    """IFAttributorEKFAC on the mean loss, with a damping of its own, which is one number for all layers."""
    from dattri.algorithm.influence_function import IFAttributorEKFAC
    from torch.utils.data import DataLoader, TensorDataset

    model, (train, test) = _loaded(folder, linear=True), _texts(folder, texts)

    def loss(parameters: dict[str, Tensor], data: tuple[Tensor]) -> Tensor:
        tokens = data[0] if data[0].dim() > 1 else data[0][None]
        logits = torch.func.functional_call(model, parameters, (), {"input_ids": tokens}).logits
        return _mean_loss(logits, tokens).mean()

    modules = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    attributor = IFAttributorEKFAC(task=_dattri_task(model, loss), module_name=modules, damping=1e-8)
    loaders = [DataLoader(TensorDataset(tokens), batch_size=TEXTS_AT_ONCE // 4) for tokens in (train, test)]

    def work() -> Tensor:
        attributor.cache(loaders[0])
        return attributor.attribute(loaders[0], loaders[1])

    seconds, scores = repeat(work, repeats, warm_up=0)
    return Outcome(seconds, {"scores": scores.detach().numpy()})
