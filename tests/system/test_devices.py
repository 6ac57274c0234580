"""Choice of the device, and the settings of the process."""

import pytest
import torch
from torch import nn

from tda.system.devices import device_name, image_format, on_device, pick_device, prepare_process
from tda.system.errors import UserError


def test_device_is_picked():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", "", "cuda:77"])
def test_unusable_device_is_refused(name: str):
    with pytest.raises(UserError, match=f"device {name} cannot be used on this machine; use --device cpu or auto"):
        pick_device(name)


def test_denormal_numbers_count_as_zero():
    tiny = torch.tensor(1e-40)
    assert tiny * 0.5 != 0
    prepare_process()
    assert tiny * 0.5 == 0


def test_gpu_products_and_convolutions_are_in_float32(monkeypatch: pytest.MonkeyPatch):
    matmul = torch.backends.cuda.matmul
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        # As TORCH_ALLOW_TF32_CUBLAS_OVERRIDE does.
        matmul.allow_tf32 = True
        prepare_process()
        assert not matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    finally:
        matmul.allow_tf32 = False


def test_memory_format_is_that_of_the_device():
    assert image_format(torch.device("cpu")) == torch.channels_last
    assert image_format(torch.device("cuda")) == torch.contiguous_format


def test_model_lies_as_the_device_s_kernels_take_it():
    model = on_device(nn.Conv2d(3, 4, 3), torch.device("cpu"))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_processor_is_recorded_with_its_threads():
    assert device_name(torch.device("cpu")) == f"cpu, {torch.get_num_threads()} threads"
