"""What `tda` names as public is there, and naming it costs nothing."""

import subprocess
import sys

import pytest

import tda


@pytest.mark.parametrize("name", tda.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(tda, name).__module__.startswith("tda.")


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tda.nothing


def test_importing_the_package_imports_no_heavy_one():
    code = "import sys, tda; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
