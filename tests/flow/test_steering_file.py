from pathlib import Path

import pytest
import torch

from selva_audio.errors import CheckpointError, MissingFileError
from selva_audio.flow.steering import SteeringVectors
from selva_audio.flow.steering_file import FORMAT, read_steering, write_steering

WIDTH, LATENTS = 6, 5


def own() -> SteeringVectors:
    blocks = ("joint_blocks.0", "fused_blocks.0")
    return SteeringVectors(
        {path: torch.randn(4, 1, WIDTH) for path in blocks},
        (0.0, 0.25, 0.5, 0.75, 1.0),
        "small_16k",
        "md5:0",
        {"n": 3, "seed": 5, "contrast": "empty", "report": {"joint_blocks.0": {"norm": 1.0}}},
    )


def pack(**changed) -> dict:
    listed = [torch.randn(LATENTS, WIDTH) for _ in range(3)]
    told = {"n_blocks": 3, "n_joint": 1, "n_fused": 2, "latent_seq_len": LATENTS, "n_samples": 16}
    return {"steering_vectors": listed, **told, "seed": 42, "mode": "16k", "variant": "small_16k", **changed}


def test_written_vectors_are_read_as_they_were(tmp_path: Path) -> None:
    vectors = own()
    again = read_steering(write_steering(tmp_path / "v.pt", vectors))
    assert again.vectors.keys() == vectors.vectors.keys()
    assert all(torch.equal(again.vectors[path], tensor) for path, tensor in vectors.vectors.items())
    assert (again.edges, again.variant, again.base) == (vectors.edges, "small_16k", "md5:0")
    assert again.meta == vectors.meta and not again.is_of_pack


def test_a_file_of_the_pack_lists_joint_blocks_first(tmp_path: Path) -> None:
    content = pack()
    torch.save(content, tmp_path / "p.pt")
    found = read_steering(tmp_path / "p.pt")
    assert list(found.vectors) == ["joint_blocks.0", "fused_blocks.0", "fused_blocks.1"]
    assert torch.equal(found.vectors["fused_blocks.1"][0], content["steering_vectors"][2])
    assert found.is_of_pack and found.edges == (0.0, 1.0) and found.meta["n_samples"] == 16


def test_the_oldest_files_of_the_pack_have_no_positions(tmp_path: Path) -> None:
    torch.save(pack(steering_vectors=[torch.randn(WIDTH) for _ in range(3)]), tmp_path / "p.pt")
    assert read_steering(tmp_path / "p.pt").vectors["joint_blocks.0"].shape == (1, 1, WIDTH)


def test_without_a_count_the_variant_tells_which_blocks_are_joint(tmp_path: Path) -> None:
    content = pack(steering_vectors=[torch.randn(2, WIDTH) for _ in range(12)])
    del content["n_joint"]
    torch.save(content, tmp_path / "p.pt")
    assert list(read_steering(tmp_path / "p.pt").vectors)[3:5] == ["joint_blocks.3", "fused_blocks.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"embeddings": torch.zeros(2)}, "holds no steering vectors"),
        ([torch.zeros(2)], "holds no steering vectors"),
        (pack(steering_vectors=[torch.zeros(3), "x", torch.zeros(3)]), "fused_blocks.0 is 'x'"),
        (pack(steering_vectors=[torch.zeros(3), torch.zeros(3), torch.zeros(4)]), "several shapes"),
        (pack(steering_vectors=[torch.full((3,), torch.nan)] * 3), "no numbers"),
        (pack(steering_vectors=[torch.ones(3, dtype=torch.int64)] * 3), "no numbers"),
        (pack(n_joint=7), "lists 3 blocks, of which 7 are joint"),
        ({"format": FORMAT, "vectors": {}, "t_edges": [0, 1]}, "names no blocks"),
        ({"format": FORMAT, "vectors": {"a": torch.zeros(1, 2)}}, "tells no times"),
        ({"format": FORMAT, "vectors": {"a": torch.zeros(1, 2)}, "t_edges": [0.0, 0.5]}, "not from 0 to 1"),
        ({"format": FORMAT, "vectors": {"a": torch.zeros(2, 2)}, "t_edges": [0.0, 1.0]}, "for 1 times"),
    ],
    ids=range(11),
)
def test_what_is_no_such_file_is_refused_in_one_sentence(tmp_path: Path, content, message) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message):
        read_steering(tmp_path / "x.pt")


def test_truncated_and_hostile_files_are_refused(tmp_path: Path) -> None:
    whole = write_steering(tmp_path / "v.pt", own()).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="incomplete or damaged"):
        read_steering(tmp_path / "half.pt")
    torch.save({"steering_vectors": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="could run code"):
        read_steering(tmp_path / "code.pt")
    with pytest.raises(MissingFileError, match="selva steer extract"):
        read_steering(tmp_path / "none.pt")
