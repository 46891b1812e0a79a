import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from cmcd_thermal import ThermalOptions, build, cmcd_modalities
from PIL import Image

from cmcd_core import DataError
from cmcd_core.testing import check_plugin


def test_contract():
    check_plugin("thermal")


def test_contract_on_files(tmp_path):
    degrees = np.random.default_rng(0).normal(20, 10, (2, 48, 64))
    files = [tmp_path / "a.png", tmp_path / "b.npy"]
    Image.fromarray(((degrees[0] + 273.15) * 100).astype(np.uint16)).save(files[0])
    np.save(files[1], degrees[1].astype(np.float32))
    check_plugin("thermal", samples={"thermal": files})


def test_sixteen_bit_png_is_hundredths_of_a_kelvin(tmp_path):
    Image.fromarray(np.array([[27315, 29315], [0, 65535]], np.uint16)).save(tmp_path / "t.png")
    thermal = build(ThermalOptions())
    degrees = thermal.decode(tmp_path / "t.png")
    assert degrees.dtype == torch.float32
    torch.testing.assert_close(degrees, torch.tensor([[[0.0, 20.0], [-273.15, 382.2]]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(thermal.encode(degrees[None]), torch.tensor([[[[0.25, 0.5], [0.0, 1.0]]]]))


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_floats_are_degrees(tmp_path, suffix):
    values = np.array([[-5.5, 36.6]], np.float32)
    file = tmp_path / f"t{suffix}"
    np.save(file, values) if suffix == ".npy" else Image.fromarray(values).save(file)
    thermal = build(ThermalOptions(low_c=0, high_c=40))
    torch.testing.assert_close(thermal.decode(file), torch.from_numpy(values)[None])
    torch.testing.assert_close(thermal.decode(file.read_bytes()), thermal.decode(file))
    torch.testing.assert_close(thermal.encode(thermal.decode(file)), torch.tensor([[[0.0, 0.915]]]))


def test_dead_pixels_are_cold_and_pictures_can_be_shown():
    degrees = build(ThermalOptions()).decode(np.array([[np.nan, 60.0]], np.float32))
    assert build(ThermalOptions()).picture(degrees)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16)])
def test_what_is_no_thermal_image(array):
    with pytest.raises(DataError, match="no thermal image"):
        build(ThermalOptions()).decode(array)


def test_damaged_file():
    buffer = BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(buffer, "png")
    with pytest.raises(Exception, match=r".+"):  # the core says which file it was
        build(ThermalOptions()).decode(buffer.getvalue()[:40])


def test_options():
    with pytest.raises(ValueError, match="less than high_c"):
        ThermalOptions(low_c=50, high_c=10)
    (part,) = cmcd_modalities()
    assert (part.name, part.options) == ("thermal", ThermalOptions)
    assert all(field.description for field in ThermalOptions.model_fields.values())


def test_light():
    heavy = "import cmcd_thermal, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy]).returncode == 0
