import pytest
import torch
from safetensors.torch import save_file

from selva_audio.errors import CheckpointError, MissingFileError
from selva_audio.flow.noise_file import read_noise, write_noise


def test_noise_is_read_as_it_was_written(tmp_path) -> None:
    noise = torch.randn(7, 3)
    assert torch.equal(read_noise(write_noise(tmp_path / "n.safetensors", noise)), noise)


def test_what_is_no_noise_is_refused(tmp_path) -> None:
    path = tmp_path / "n.safetensors"
    with pytest.raises(MissingFileError, match="selva ditto"):
        read_noise(path)
    for tensors, message in (
        ({"weight": torch.zeros(2, 2)}, "holds no noise"),
        ({"noise": torch.zeros(2)}, "holds no noise"),
        ({"noise": torch.zeros(2, 2, dtype=torch.int64)}, "holds no noise"),
        ({"noise": torch.full((2, 2), torch.inf)}, "not finite"),
    ):
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=message):
            read_noise(path)
    path.write_bytes(write_noise(tmp_path / "w.safetensors", torch.randn(9, 9)).read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="not a whole safetensors"):
        read_noise(path)
