"""The names of the package trak, their signatures and what its documents say of them, kept from rotting.

A program written for trak, its imports and its device changed, finds what it asks for. Facts alone are taken from trak.
"""

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from drop_in_rows import PARAMETERS, SCORED, TRAINED, gradients, made, rows
from torch import Tensor
from trak_programs import DIMENSION, TARGETS, TRAIN, ImageOutput, image_model, scores_of, states

import tda.trak
from tda.gradients.projections import Projection
from tda.system.errors import UserError
from tda.trak import TRAKer, modelout_functions, test_install
from tda.trak.gradient_computers import FunctionalGradientComputer
from tda.trak.projectors import (
    AbstractProjector,
    BasicProjector,
    BasicSingleBlockProjector,
    ChunkedCudaProjector,
    CudaProjector,
    NoOpProjector,
    ProjectionType,
)
from tda.trak.refusals import ModelIDException
from tda.trak.savers import MmapSaver
from tda.trak.score_computers import BasicScoreComputer
from tda.trak.utils import get_num_params, get_parameter_chunk_sizes, parameters_to_vector, vectorize

NAMES = {
    "": "TRAKer test_install __version__ VERSION",
    ".traker": "TRAKer",
    ".modelout_functions": "AbstractModelOutput ImageClassificationModelOutput CLIPModelOutput TextClassificationModelOutput "
    "IterativeImageClassificationModelOutput TASK_TO_MODELOUT",
    ".projectors": "ProjectionType AbstractProjector NoOpProjector BasicSingleBlockProjector BasicProjector CudaProjector "
    "ChunkedCudaProjector",
    ".gradient_computers": "AbstractGradientComputer FunctionalGradientComputer IterativeGradientComputer",
    ".score_computers": "AbstractScoreComputer BasicSingleBlockScoreComputer BasicScoreComputer",
    ".savers": "AbstractSaver MmapSaver ModelIDException",
    ".utils": "test_install parameters_to_vector get_num_params is_not_buffer vectorize get_output_memory get_free_memory "
    "get_matrix_mult_standard get_matrix_mult_blockwise get_matrix_mult get_parameter_chunk_sizes",
}


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_there(module: str):
    found = import_module(f"tda.trak{module}")
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


ARGUMENTS = {
    TRAKer: "model task train_set_size save_dir load_from_save_dir device gradient_computer projector saver score_computer "
    "proj_dim logging_level use_half_precision proj_max_batch_size projector_seed grad_wrt lambda_reg",
    TRAKer.load_checkpoint: "checkpoint model_id _allow_featurizing_already_registered",
    TRAKer.featurize: "batch inds num_samples",
    TRAKer.finalize_features: "model_ids del_grads",
    TRAKer.start_scoring_checkpoint: "exp_name checkpoint model_id num_targets",
    TRAKer.score: "batch inds num_samples",
    TRAKer.finalize_scores: "exp_name model_ids allow_skip",
    BasicProjector: "grad_dim proj_dim seed proj_type device block_size dtype model_id",
    BasicSingleBlockProjector: "grad_dim proj_dim seed proj_type device dtype model_id",
    CudaProjector: "grad_dim proj_dim seed proj_type device max_batch_size",
    ChunkedCudaProjector: "projector_per_chunk max_chunk_size params_per_chunk feat_bs device dtype",
    NoOpProjector: "grad_dim proj_dim seed proj_type device",
    FunctionalGradientComputer: "model task grad_dim dtype device grad_wrt",
    BasicScoreComputer: "dtype device CUDA_MAX_DIM_SIZE logging_level lambda_reg",
    modelout_functions.ImageClassificationModelOutput: "temperature",
    modelout_functions.CLIPModelOutput: "temperature simulated_batch_size",
    modelout_functions.CLIPModelOutput.get_embeddings: "model loader batch_size embedding_dim size preprocess_fn_img "
    "preprocess_fn_txt",
}


@pytest.mark.parametrize("function", ARGUMENTS)
def test_every_argument_is_at_its_place(function: object):
    found = [name for name in inspect.signature(function).parameters if name != "self"]
    expected = ARGUMENTS[function].split()
    assert found[: len(expected)] == expected


def by_name(flat: Tensor) -> dict[str, Tensor]:
    shapes = {name: parameter.shape for name, parameter in image_model().named_parameters()}
    parts = flat.split([shape.numel() for shape in shapes.values()], dim=1)
    return {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


@pytest.mark.parametrize("kind", ["normal", ProjectionType.rademacher, "sparse"])
@pytest.mark.parametrize("projector", [BasicProjector, BasicSingleBlockProjector, CudaProjector])
def test_projectors_give_a_traker_its_rows(projector: type, kind: str, tmp_path: Path):
    own = projector(grad_dim=PARAMETERS, proj_dim=DIMENSION, seed=3, proj_type=kind, device="cpu", dtype=torch.float64)
    for model_id in (0, 2):
        expected = own.project(by_name(gradients()), model_id) / DIMENSION**0.5
        np.testing.assert_allclose(rows(tmp_path, model_id=model_id, projector=own), expected, rtol=1e-9, atol=1e-9)
        same = rows(tmp_path / "ours", model_id=model_id, projector=Projection(DIMENSION, 3, getattr(kind, "value", kind)))
        np.testing.assert_allclose(same, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", list(ProjectionType))
def test_projectors_keep_inner_products_times_the_dimension(kind: ProjectionType):
    flat = torch.randn(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dimension, products = 64, []
    for seed in range(200):
        projected = BasicProjector(500, dimension, seed, kind, "cpu", dtype=torch.float64).project(flat, model_id=0)
        products.append(projected @ projected.T / dimension)
    mean, spread = torch.stack(products).mean(0), torch.stack(products).std(0)
    assert ((mean - flat @ flat.T).abs() < 4 * spread / 200**0.5).all()
    assert float(projected.pow(2).mean()) == pytest.approx(500, rel=0.3)


def test_projectors_draw_anew_for_each_model_and_the_same_again():
    flat = torch.ones(2, 30)
    projector = BasicProjector(30, 16, 0, "normal", "cpu")
    first, second = projector.project(flat, model_id=0), projector.project(flat, model_id=1)
    assert not torch.allclose(first, second)
    projector.free_memory()
    torch.testing.assert_close(projector.project(flat, model_id=0), first)
    torch.testing.assert_close(BasicProjector(30, 16, 0, "normal", "cpu").project(flat, model_id=0), first)
    assert projector.project(flat.half(), model_id=0).dtype == torch.float32
    with pytest.raises(AssertionError, match="grad_dim=30"):
        projector.project(torch.ones(2, 29), model_id=0)
    with pytest.raises(KeyError, match="unknown proj_type 'other'"):
        BasicProjector(30, 16, 0, "other", "cpu")


def test_chunks_of_parameters_add_up(tmp_path: Path):
    sizes = [parameter.numel() for parameter in image_model().parameters()]
    chunks = [sum(sizes[:3]), sum(sizes[3:])]
    parts = [CudaProjector(size, DIMENSION, seed, "rademacher", "cpu", dtype=torch.float64) for seed, size in enumerate(chunks)]
    projector = ChunkedCudaProjector(parts, max(chunks), chunks, 32, "cpu", torch.float64)
    flat = gradients()
    expected = sum(part.project(columns, 0) for part, columns in zip(parts, flat.split(chunks, dim=1), strict=True))
    np.testing.assert_allclose(rows(tmp_path, projector=projector), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(AssertionError, match="the chunks"):
        projector.project({"a": flat[:, :-1]}, 0)


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
def test_whole_gradients_without_projection(task: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tda.trak.example_gradients._MEMORY_BUDGET", 5000)
    found = rows(tmp_path, task=task, projector=NoOpProjector(), proj_dim=0)
    np.testing.assert_allclose(found, gradients(), rtol=1e-9, atol=1e-12)
    # As of any other projector, but they have no effect.
    arguments = {"grad_dim": PARAMETERS, "proj_dim": 5, "seed": 42, "proj_type": "normal", "device": "cpu"}
    np.testing.assert_array_equal(rows(tmp_path / "five", task=task, projector=NoOpProjector(**arguments), proj_dim=5), found)


class FirstNumbers(AbstractProjector):
    """A projector of a program's own: some numbers of each gradient, others for each model."""

    def __init__(self) -> None:
        super().__init__(grad_dim=PARAMETERS, proj_dim=5, seed=0, proj_type="first", device="cpu")

    def project(self, grads: dict[str, Tensor] | Tensor, model_id: int) -> Tensor:
        """Five numbers from the place model_id on."""
        flat = vectorize(grads) if isinstance(grads, dict) else grads
        return flat[:, model_id : model_id + 5]


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
def test_a_projector_of_ones_own(task: object, tmp_path: Path):
    np.testing.assert_allclose(rows(tmp_path, task=task, model_id=2, projector=FirstNumbers()), gradients()[:, 2:7], rtol=1e-9)
    wrong = FirstNumbers()
    wrong.proj_dim = 4
    with pytest.raises(UserError, match=r"project of FirstNumbers gave \(20, 5\), not \(20, 4\)"):
        rows(tmp_path / "wrong", projector=wrong)
    with pytest.raises(UserError, match="a method project"):
        rows(tmp_path / "none", projector=object())
    for dimension in (0, None):
        with pytest.raises(UserError, match="give at least 1, or projector=NoOp"):
            rows(tmp_path / "zero", proj_dim=dimension)


def test_what_a_traker_says_of_itself(tmp_path: Path):
    scores = scores_of(image_model(), states(), TRAINED, SCORED, save_dir=tmp_path, exp_name="quickstart")
    traker = made(tmp_path)
    assert (traker.proj_dim, traker.projector.proj_dim, traker.num_params, traker.num_params_for_grad) == (
        8,
        8,
        PARAMETERS,
        PARAMETERS,
    )
    assert made(tmp_path / "few", grad_wrt=["4.bias"]).num_params_for_grad == 3
    assert isinstance(traker.saver, MmapSaver) and isinstance(traker.score_computer, BasicScoreComputer)
    assert traker.saver.model_ids == {number: {"is_featurized": 1, "is_finalized": 1} for number in range(2)}
    path = tmp_path / "scores" / "quickstart.mmap"
    known = {"num_targets": TARGETS, "scores_path": str(path), "scores_finalized": 1}
    assert traker.saver.experiments == {"quickstart": known}
    with pytest.raises(ModelIDException, match="no checkpoint is loaded"):
        _ = traker.saver.current_store
    traker.start_scoring_checkpoint("quickstart", states()[1], 1, TARGETS)
    store = traker.saver.current_store
    assert {name: array.shape for name, array in store.items()} == {
        "grads": (TRAIN, 8),
        "features": (TRAIN, 8),
        "out_to_loss": (TRAIN, 1),
        "is_featurized": (TRAIN, 1),
        "quickstart_grads": (TARGETS, 8),
        "quickstart_scores": (TRAIN, TARGETS),
    }
    np.testing.assert_array_equal(store["quickstart_scores"], scores)
    assert traker.finalize_scores("quickstart") is traker.scores


def test_features_of_several_ridges_are_shown_each_by_its_own_traker(tmp_path: Path):
    for ridge in (None, 1.0, 1e3):
        traker = made(tmp_path, lambda_reg=ridge)
        traker.load_checkpoint(states()[0], 0)
        traker.featurize(TRAINED[:], num_samples=TRAIN)
        assert traker.saver.model_ids[0] == {"is_featurized": 1, "is_finalized": 0}
        traker.finalize_features()
        assert traker.saver.model_ids[0] == {"is_featurized": 1, "is_finalized": 1}
        store = {name: np.array(array) for name, array in traker.saver.current_store.items()}
        added = np.square(store["grads"]).sum(axis=1).mean() if ridge is None else ridge
        kernel = store["grads"].T @ store["grads"] + added * np.eye(DIMENSION)
        np.testing.assert_allclose(store["features"], store["grads"] @ np.linalg.inv(kernel), rtol=1e-6)


def test_the_saver_shows_any_checkpoint(tmp_path: Path):
    scores_of(image_model(), states(), TRAINED, SCORED, save_dir=tmp_path, exp_name="test")
    saver = made(tmp_path).saver
    for model_id in (1, 0):
        saver.load_current_store(model_id)
        np.testing.assert_array_equal(saver.current_store["grads"], np.load(tmp_path / str(model_id) / "gradients.npy"))
        assert set(saver.current_store) == {"grads", "features", "out_to_loss", "is_featurized"}
    saver.load_current_store(1, "test", TARGETS)
    targets = np.load(tmp_path / "1" / "targets" / "test" / "gradients.npy")
    np.testing.assert_array_equal(saver.current_store["test_grads"], targets)
    with pytest.raises(ModelIDException, match="model_id 7 was never"):
        saver.load_current_store(7)


def test_names_that_mean_nothing_here_say_so(tmp_path: Path):
    saver = made(tmp_path).saver
    for name in ("register_model_id", "save_scores", "del_grads"):
        with pytest.raises(UserError, match=f"{name} of a saver"):
            getattr(saver, name)
    with pytest.raises(AttributeError, match="a saver has no other"):
        _ = saver.other
    assert made(tmp_path, saver=MmapSaver).saver.save_dir == saver.save_dir
    with pytest.raises(UserError, match="what PyTorch holds on a GPU"):
        tda.trak.utils.get_free_memory("cpu")


def test_exceptions_are_those_that_a_program_catches(tmp_path: Path):
    traker = made(tmp_path)
    batch = TRAINED[:]
    with pytest.raises(AssertionError, match="Load a checkpoint using traker.load_checkpoint before featurizing"):
        traker.featurize(batch, num_samples=TRAIN)
    traker.load_checkpoint(states()[0], 0)
    with pytest.raises(AssertionError, match="Exactly one of num_samples and inds should be specified"):
        traker.featurize(batch)
    traker.featurize(batch, num_samples=TRAIN)
    with pytest.raises(ModelIDException):
        traker.finalize_features(model_ids=[7])
    with pytest.raises(ModelIDException):
        traker.start_scoring_checkpoint("e", states()[0], 7, TARGETS)
    traker.finalize_features()
    with pytest.raises(ValueError, match="experiment e holds no targets"):
        traker.finalize_scores("e")
    with pytest.raises(AssertionError, match="begun with another train_set_size"):
        made(tmp_path, train_set_size=21)
    with pytest.raises(AssertionError, match="begun with another proj_dim"):
        made(tmp_path, proj_dim=9)
    with pytest.raises(KeyError, match="unknown task 'other'"):
        made(tmp_path / "other", task="other")
    with pytest.raises(AssertionError, match="No model|no checkpoint was featurized"):
        made(tmp_path / "empty").finalize_scores("e")
    task = modelout_functions.CLIPModelOutput()
    with pytest.raises(AssertionError, match="Run traker.task.get_embeddings first before featurizing"):
        task.get_output(image_model(), {}, {}, *TRAINED[0])


@pytest.mark.parametrize("theirs", ["metadata.json", "id_3.json"])
def test_a_folder_of_trak_itself_is_left_alone(theirs: str, tmp_path: Path):
    (tmp_path / theirs).write_text("{}")
    with pytest.raises(AssertionError, match=f"holds results of the package trak \\({theirs}\\)"):
        made(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [theirs]


def test_helpers():
    model = image_model()
    flat = parameters_to_vector(model.parameters())
    assert len(flat) == get_num_params(model) == PARAMETERS
    torch.testing.assert_close(vectorize(by_name(gradients())), gradients())
    held = torch.zeros(TRAIN, PARAMETERS + 1, dtype=torch.float64)
    assert vectorize(by_name(gradients()), held) is held
    torch.testing.assert_close(held[:, :-1], gradients())
    with pytest.raises(AssertionError):
        vectorize({"a": torch.ones(2, 3), "b": torch.ones(3, 3)})
    torch.testing.assert_close(vectorize({"a": torch.tensor([1.0, 2.0])}), torch.tensor([[1.0], [2.0]]))
    largest, chunks = get_parameter_chunk_sizes(model, 8)
    assert chunks == [PARAMETERS] and largest == (2**32 - 1) // 8
    largest, chunks = get_parameter_chunk_sizes(model, (2**32 - 1) // 200)
    assert sum(chunks) == PARAMETERS and len(chunks) == 2 and chunks[0] < largest
    utils = tda.trak.utils
    left, right = torch.randn(7, 3), torch.randn(4, 3)
    for options in ({}, {"use_blockwise": True, "batch_size": 2}):
        torch.testing.assert_close(utils.get_matrix_mult(left, right, **options), left @ right.T)
    assert utils.get_output_memory(left, right, torch.float16) == 7 * 4 * 2
    names = ["0.weight", "1.running_mean", "1.num_batches_tracked"]
    assert [utils.is_not_buffer(i, names) for i in range(3)] == [True, False, False]


def test_installed():
    for given in ({}, {"use_fast_jl": False}):
        assert test_install(**given) == "tda.trak is installed correctly"
    assert tda.trak.__version__ == tda.trak.VERSION == "0.3.2"


def test_a_program_in_jobs_that_share_a_folder(tmp_path: Path):
    """As trak's example for a cluster: a job for each checkpoint, and one that gathers."""
    expected = scores_of(image_model(), states(), TRAINED, SCORED, save_dir=tmp_path / "one")
    for model_id, checkpoint in enumerate(states()):
        traker = made(tmp_path / "jobs", load_from_save_dir=model_id == 0)
        traker.load_checkpoint(checkpoint, model_id=model_id)
        traker.featurize(TRAINED[:], num_samples=TRAIN)
        traker.finalize_features(model_ids=[model_id])
        traker.start_scoring_checkpoint("slurm", checkpoint, model_id=model_id, num_targets=TARGETS)
        traker.score(SCORED[:], num_samples=TARGETS)
    found = made(tmp_path / "jobs").finalize_scores(exp_name="slurm")
    np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(np.lib.format.open_memmap(tmp_path / "jobs" / "scores" / "slurm.mmap"), found)
