"""Maps that look at one image alone, to compare influence maps with: input gradients and Grad-CAM (Selvaraju et al. 2017)."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.gradients.quantities import Quantity, cross_entropy_loss
from tda.system.errors import UserError


def input_gradients(model: nn.Module, images: Tensor, labels: Tensor, quantity: Quantity = cross_entropy_loss) -> Tensor:
    """Gradients (n, c, h, w) of each image's quantity with respect to its own pixels."""
    leaf = images.detach().clone().requires_grad_()
    return torch.autograd.grad(quantity(model(leaf), labels).sum(), leaf)[0]


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Grad-CAM (n, h, w) >= 0 of the labelled logits (n,), at the last convolution, brought to the images' size bilinearly.

    For a vision transformer that convolution cuts the patches. Raises UserError if captum is missing or the model has no
    convolution.
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise UserError("Grad-CAM needs captum; install the pins with pip install -r req.txt") from error
    copied = deepcopy(model).eval()
    convolutions = [module for module in copied.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise UserError("Grad-CAM needs a model with a convolution; this one has none")
    found = LayerGradCam(copied, convolutions[-1]).attribute(images, target=labels, relu_attributions=True)
    return functional.interpolate(found.detach(), size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
