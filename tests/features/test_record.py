import io
import os
import struct
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selva_audio.configs import num_segments
from selva_audio.errors import CheckpointError, InputError, MissingFileError, OutputError
from selva_audio.features import VideoFeatures, load_features, save_features

FULL = VideoFeatures(
    torch.randn(1, 16, 1024),
    torch.randn(1, 40, 768),
    prompt="dog barking, naïve",
    negative_prompt="wind",
    duration=2.0,
    source="clip.mp4",
    encoder_id="md5:1",
    fps=29.97,
    variant="small_16k",
)
ARRAYS = {"clip_features": np.ones((1, 16, 8), "f4"), "sync_features": np.ones((1, 40, 8), "f4")}


@pytest.fixture
def write(tmp_path: Path):
    """``write(name=array, ...)``: an .npz file of any content."""

    def save(**arrays) -> Path:
        np.savez(tmp_path / "x.npz", **arrays)
        return tmp_path / "x.npz"

    return save


def test_a_saved_record_comes_back_whole(tmp_path: Path) -> None:
    path = save_features(tmp_path / "new" / "x.npz", FULL)
    again = load_features(path)
    assert os.listdir(path.parent) == ["x.npz"]
    for field in fields(VideoFeatures):
        got, expected = getattr(again, field.name), getattr(FULL, field.name)
        assert torch.equal(got, expected) if isinstance(expected, torch.Tensor) else got == expected


def test_a_file_has_the_keys_that_users_files_have(tmp_path: Path) -> None:
    with np.load(save_features(tmp_path / "x.npz", FULL), allow_pickle=False) as arrays:
        assert arrays["clip_features"].shape == (1, 16, 1024)
        assert arrays["sync_features"].dtype == np.float32
        assert (str(arrays["prompt"]), float(arrays["duration"])) == ("dog barking, naïve", 2.0)
        assert str(arrays["variant"]) == "small_16k"


def test_features_without_a_picture_are_kept(tmp_path: Path) -> None:
    bare = replace(FULL, clip=torch.zeros(1, 0, 1024), sync=torch.zeros(1, 0, 768))
    again = load_features(save_features(tmp_path / "x.npz", bare))
    assert (again.clip.shape, again.sync.shape) == ((1, 0, 1024), (1, 0, 768))
    assert again.duration == 2.0


@pytest.mark.parametrize("extra", [{}, {"prompt": "dog"}, {"prompt": "dog", "variant": "large_44k"}])
def test_files_of_the_public_pack_are_read(write, extra: dict[str, str]) -> None:
    features = load_features(write(**ARRAYS, duration=np.float64(2.0), **extra))
    assert (features.clip.shape, features.sync.shape) == ((1, 16, 8), (1, 40, 8))
    assert (features.duration, features.prompt) == (2.0, extra.get("prompt", ""))
    assert features.negative_prompt == features.encoder_id == ""


def test_a_missing_batch_axis_is_added(write) -> None:
    features = load_features(write(**{key: array[0] for key, array in ARRAYS.items()}, duration=2.0))
    assert (features.clip.shape, features.sync.shape) == ((1, 16, 8), (1, 40, 8))


def test_half_precision_and_single_element_numbers_are_read(write) -> None:
    halves = {key: array.astype("f2") for key, array in ARRAYS.items()}
    features = load_features(write(**halves, duration=np.array([2.0])))
    assert features.sync.dtype == torch.float32
    assert features.duration == 2.0


@given(segments=st.integers(1, 2000))
def test_without_a_duration_the_rows_tell_it(segments: int) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer, clip_features=np.ones((1, 1, 2), "f4"), sync_features=np.ones((1, 8 * segments, 2), "f4")
    )
    path = Path(os.environ["XDG_CACHE_HOME"]) / "x.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(buffer.getvalue())
    assert num_segments(load_features(path).duration) == segments


def test_no_file_names_the_command() -> None:
    with pytest.raises(MissingFileError, match="Make one with `selva features VIDEO`"):
        load_features("nowhere.npz")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"clip_features": ARRAYS["clip_features"], "other": 1},
            "holds no sync_features, only clip_features, other",
        ),
        ({}, "no clip_features and no sync_features, only nothing"),
        (ARRAYS | {"sync_features": np.ones((1, 41, 8), "f4")}, "41 rows"),
        (ARRAYS | {"sync_features": np.ones(8, "f4")}, r"must be \(B, tokens, width\)"),
        (ARRAYS | {"sync_features": np.ones((1, 40, 8), "i8")}, "holds int64, not floating-point"),
        (ARRAYS | {"sync_features": np.array("text")}, "holds <U4, not floating-point"),
        (ARRAYS | {"duration": np.array("long")}, "no usable features"),
        (ARRAYS | {"duration": np.ones(3)}, "no usable features"),
        (ARRAYS | {"duration": -1.0}, "duration of -1 s"),
        (ARRAYS | {"duration": np.nan}, "duration of nan s"),
        (ARRAYS | {"duration": 1e12}, r"duration of 1e\+12 s"),
    ],
    ids=range(11),
)
def test_content_that_is_no_features_is_a_sentence(write, arrays: dict, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load_features(write(**arrays))


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "ran"))


def test_a_pickled_array_is_refused_and_does_not_run(write, tmp_path: Path) -> None:
    canary = np.array([Canary(tmp_path / "canary")], dtype=object)
    for key in ("clip_features", "prompt"):
        with pytest.raises(CheckpointError, match="not a readable feature file"):
            load_features(write(**ARRAYS | {key: canary}))
    assert not (tmp_path / "canary").exists()


def test_a_zip_bomb_is_refused_by_its_directory(write) -> None:
    path = write(**ARRAYS)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 3 * 2**30)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"would unpack to 3\.0 GB"):
        load_features(path)


@pytest.mark.parametrize("count", [10**9, 10**15])
def test_an_array_that_is_smaller_than_its_header_says_is_refused(tmp_path: Path, count: int) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, %d, 768), }" % count
    header = header.ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for key in ("clip_features", "sync_features"):
            archive.writestr(f"{key}.npy", array)
    with pytest.raises(CheckpointError, match="not a readable feature file"):
        load_features(tmp_path / "x.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cut=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, cut: float) -> None:
    whole = save_features(tmp_path / "whole.npz", replace(FULL, clip=torch.ones(1, 2, 4))).read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(CheckpointError):
        load_features(tmp_path / "torn.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path: Path, data) -> None:
    small = VideoFeatures(torch.ones(1, 2, 4), torch.ones(1, 8, 4), prompt="dog", duration=0.8)
    content = bytearray(save_features(tmp_path / "whole.npz", small).read_bytes())
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, min_size=1, max_size=6)):
        content[place] = value
    (tmp_path / "bad.npz").write_bytes(content)
    try:
        assert load_features(tmp_path / "bad.npz").sync.ndim == 3
    except CheckpointError as error:
        assert "bad.npz" in str(error)


def test_an_output_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        save_features(tmp_path, FULL)


def test_a_record_checks_its_shapes() -> None:
    with pytest.raises(InputError, match="eight per segment; 7 rows"):
        VideoFeatures(torch.zeros(1, 1, 4), torch.zeros(1, 7, 4))
    with pytest.raises(InputError, match=r"must be \(B, tokens, width\)"):
        VideoFeatures(torch.zeros(1, 4), torch.zeros(1, 8, 4))
