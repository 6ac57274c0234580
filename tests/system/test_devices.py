"""Choice of the device, and the settings of the process."""

import pytest
import torch

from tda.system.devices import image_format, peak_memory_bytes, pick_device, prepare_process
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


def test_memory_and_format():
    assert 50 * 2**20 < peak_memory_bytes() < 2**40
    assert image_format(torch.device("cpu")) == torch.channels_last
    assert image_format(torch.device("cuda")) == torch.contiguous_format
