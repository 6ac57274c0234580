"""Constants and arguments of the step that attributes a classifier of photographs in folders of any size."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class FolderAttribution:
    """Which photographs, which network, how its gradients are kept, and which part of the work is done here."""

    name: str
    """Name of the study: everything is written into results/<name>/."""
    train: str
    """Folder of the training photographs, <train>/<class>/*.jpg."""
    targets: str
    """Folder of the photographs whose predictions are explained, in folders of the same classes."""
    model: str
    """resnet18 (torchvision's) or vit_b_16 (transformers' ViT-B/16), for as many classes as there are folders."""
    checkpoints: tuple[str, ...]
    """Files of state dicts, .pt or .safetensors, with commas; random: weights that no training made, to measure a cost."""
    image_size: int
    """Side of the network's input in pixels; photographs are scaled to 8/7 of it and the middle is taken."""
    dimension: int
    """Dimension of the projected gradients."""
    half_precision: bool
    """Keep projected gradients in float16, 2 bytes a number, instead of 4."""
    k: int
    """Training photographs at each end, for each target."""
    shard: int | None
    """Only this part of the training photographs, counted from 0; a last run without it merges the parts and scores."""
    num_shards: int
    """Number of parts that --shard counts; as many machines may work at once on one folder."""
    batch_size: int
    """Photographs in a batch."""
    workers: int
    """Processes that decode photographs beside the computation; 0: none."""
    memory_budget: float
    """GiB that the algebra after the gradients may hold at once."""
    device: str = "auto"
    """Device to compute on: cpu, cuda, or auto for cuda where there is one."""
    force: bool = False
    """Compute the gradients again, whatever is there."""
