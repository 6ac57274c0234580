"""Torchvision classifiers with photographs of the user's own in class folders, or with Pascal VOC 2012."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tda.data.kinds import normalised
from tda.data.picture_folders import pictures_in, printable
from tda.data.pictures import decoded
from tda.data.splits import Split
from tda.experiments.folders import data_folder
from tda.features.subjects import Subject, results_folder
from tda.gradients.quantities import binary_cross_entropy_loss
from tda.system.devices import on_device
from tda.system.errors import UserError
from tda.system.files import reading, reading_folder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the inputs that torchvision's classifiers are trained on."""

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def folder_subject(
    name: str,
    folder: Path,
    network: str,
    checkpoints: Sequence[str],
    parameters: Sequence[str],
    size: int,
    most: int,
    device: torch.device,
) -> Subject:
    """A classifier and its images in <folder>/train/<class>/ and <folder>/test/<class>/.

    checkpoints: files of state dictionaries, one a seed; parameters: beginnings of the names of those attributed to, none for
    all; size: side that images are brought to; most: images a class.
    Raises UserError if a folder or file is missing or does not fit.
    """
    train, classes = _class_folders(folder / "train", size, most)
    test, test_classes = _class_folders(folder / "test", size, most)
    if test_classes != classes:
        raise UserError(f"{folder / 'train'} and {folder / 'test'} hold different class folders; make them the same")
    models = _models(network, checkpoints, parameters, len(classes), device)
    resident = (split.to(device) for split in (train, test))
    return Subject(results_folder(name), classes, MEAN, STD, *resident, models)


def voc_subject(
    name: str,
    explained: str,
    network: str,
    checkpoints: Sequence[str],
    parameters: Sequence[str],
    size: int,
    most: int,
    device: torch.device,
) -> Subject:
    """A multi-label classifier with 20 logits and Pascal VOC 2012, one class explained; other arguments as in folder_subject.

    Raises UserError if the data are absent or the class is unknown.
    """
    if explained not in VOC_CLASSES:
        raise UserError(f"unknown class {explained!r} of Pascal VOC; its classes are {', '.join(VOC_CLASSES)}")
    train, test = (_voc(image_set, explained, size, most) for image_set in ("train", "val"))
    models = _models(network, checkpoints, parameters, len(VOC_CLASSES), device)
    chosen = VOC_CLASSES.index(explained)
    resident = (split.to(device) for split in (train, test))
    quantity = binary_cross_entropy_loss(chosen)
    return Subject(results_folder(name), VOC_CLASSES, MEAN, STD, *resident, models, quantity, chosen)


def _class_folders(folder: Path, size: int, most: int) -> tuple[Split, list[str]]:
    try:
        found = pictures_in(folder)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is missing; put a folder of images for each class there") from error
    classes = sorted(set(found.class_names))
    labels = torch.tensor([classes.index(name) for name in found.class_names])
    chosen = torch.cat([torch.nonzero(labels == label).flatten()[:most] for label in range(len(classes))])
    return _split([found.paths[k] for k in chosen.tolist()], labels[chosen], chosen, folder, size), classes


def _split(paths: Sequence[Path], labels: Tensor, indices: Tensor, folder: Path, size: int) -> Split:
    """Pictures as torchvision's classifiers take them: the middle of the longer side, the shorter one brought to size."""
    pixels = decoded(paths, [str(path) for path in paths], channels=3, size=size, crop=True)
    files = np.array([printable(path.relative_to(folder)) for path in paths], dtype=str)
    return Split(normalised(pixels, MEAN, STD), labels, indices, files)


def _voc(image_set: str, explained: str, size: int, most: int) -> Split:
    """The first `most` images with the explained class and as many without it; labels say whether it is there."""
    from torchvision.datasets import VOCDetection

    try:
        with reading_folder(data_folder()):
            data = VOCDetection(str(data_folder()), year="2012", image_set=image_set, download=False)
            annotations = [VOCDetection.parse_voc_xml(_xml_root(path)) for path in data.annotations]
    except (RuntimeError, OSError, SyntaxError) as error:  # the last is of XML
        raise UserError(
            f"Pascal VOC 2012 is not whole in {data_folder() / 'VOCdevkit' / 'VOC2012'}; get VOCtrainval_11-May-2012.tar from "
            f"its site or a mirror and unpack it in {data_folder()}"
        ) from error
    present = torch.tensor(
        [any(found["name"] == explained for found in each["annotation"]["object"]) for each in annotations]
    ).long()
    chosen = torch.cat([torch.nonzero(present == value).flatten()[:most] for value in (1, 0)])
    paths = [Path(data.images[k]) for k in chosen.tolist()]
    return _split(paths, present[chosen], chosen, paths[0].parent, size)


def _xml_root(path: str) -> object:
    from xml.etree import ElementTree

    return ElementTree.parse(path).getroot()


def _models(
    network: str, checkpoints: Sequence[str], parameters: Sequence[str], num_classes: int, device: torch.device
) -> list[list[Callable[[], nn.Module]]]:
    paths = [Path(word) for word in checkpoints]
    if not paths:
        raise UserError("name the trained network's files of parameters by --checkpoints, one a seed, with commas")
    return [[partial(_model, network, path, parameters, num_classes, device)] for path in paths]


def _model(network: str, path: Path, parameters: Sequence[str], num_classes: int, device: torch.device) -> nn.Module:
    from torchvision.models import get_model, list_models

    if network not in list_models():
        raise UserError(f"torchvision has no network {network!r}; torchvision.models.list_models() lists what it has")
    model = get_model(network, weights=None, num_classes=num_classes)
    try:
        is_safe = path.suffix == ".safetensors"
        with reading(path):
            state = safetensors.torch.load_file(path) if is_safe else torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(state)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name the files of trained parameters by --checkpoints") from error
    except Exception as error:  # torch.load raises whatever its archive and unpickling layers raise
        raise UserError(f"{path} does not hold the parameters of a {network} with {num_classes} logits") from error
    beginnings = tuple(parameters)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(beginnings) if beginnings else True)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        wanted = " or ".join(map(repr, parameters))
        raise UserError(f"no parameter of {network} begins with {wanted}; its first is {next(iter(state))}")
    return on_device(model, device).eval()
