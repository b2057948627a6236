import io
import os
import pickle
import tarfile

import pytest
import torch

from selva_audio.errors import CheckpointError, OutputError
from selva_audio.weights.io import (
    conversion_of,
    convert_to_safetensors,
    read_metadata,
    read_object,
    read_shapes,
    read_state_dict,
    write_object,
    write_safetensors,
)


@pytest.fixture
def state():
    base = torch.arange(12.0).reshape(3, 4)
    return {"a": base, "view": base[1], "half": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}


def same(left, right):
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("outer", [None, "generator", "state_dict", "model"])
def test_torch_files_are_read_in_both_formats_and_below_one_outer_key(tmp_path, state, zipped, outer):
    path = tmp_path / "w.pth"
    content = {outer: state, "steps": 3} if outer else state
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), state)
    assert read_shapes(path) == {key: (tuple(value.shape), value.dtype) for key, value in state.items()}


def test_shapes_of_safetensors_equal_those_of_the_tensors(tmp_path, state):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, state, {"note": "made here"})
    assert read_shapes(path) == {key: (tuple(value.shape), value.dtype) for key, value in state.items()}
    assert same(read_state_dict(path), state)
    assert read_metadata(path)["note"] == "made here"


class Payload:
    """Asks the unpickler to create a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


def hostile_zip(path, payload):
    torch.save({"a": torch.zeros(2), "b": payload}, path)


def hostile_legacy(path, payload):
    torch.save({"a": torch.zeros(2), "b": payload}, path, _use_new_zipfile_serialization=False)


def hostile_pickle(path, payload):
    path.write_bytes(pickle.dumps(payload, protocol=2))


def hostile_text_pickle(path, payload):
    path.write_bytes(pickle.dumps(payload, protocol=0))


def hostile_tar(path, payload):
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(payload, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "write", [hostile_zip, hostile_legacy, hostile_pickle, hostile_text_pickle, hostile_tar]
)
@pytest.mark.parametrize("read", [read_state_dict, read_shapes, read_object, convert_to_safetensors])
def test_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path, write, read):
    path, canary = tmp_path / "w.pth", tmp_path / "canary"
    write(path, Payload(canary))
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        read(path)
    assert not canary.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["w.pth"]


@pytest.mark.parametrize("write", [hostile_zip, hostile_legacy, hostile_pickle, hostile_tar])
def test_refusal_says_that_the_file_was_not_opened_further(tmp_path, write):
    path = tmp_path / "v1-16.pth"
    write(path, Payload(tmp_path / "canary"))
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert "is not a plain weight file" in message
    assert "was not opened further" in message
    assert "selva models download small_16k" in message


def test_payload_of_these_tests_does_run_under_an_unsafe_reader(tmp_path):
    path, canary = tmp_path / "w.pth", tmp_path / "canary"
    hostile_pickle(path, Payload(canary))
    pickle.loads(path.read_bytes()).close()
    assert canary.exists()


def test_pickle_named_safetensors_is_not_unpickled(tmp_path):
    path, canary = tmp_path / "w.safetensors", tmp_path / "canary"
    torch.save({"a": Payload(canary)}, path)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_state_dict(path)
    assert not canary.exists()


def truncated_zip(path):
    torch.save({"a": torch.zeros(2000)}, path)
    path.write_bytes(path.read_bytes()[:4000])


def truncated_legacy(path):
    torch.save({"a": torch.zeros(2000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:4000])


def empty(path):
    path.write_bytes(b"")


def web_page(path):
    path.write_bytes(b"\n<!DOCTYPE html><html><body>504</body></html>")


def lfs_pointer(path):
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def noise(path):
    path.write_bytes(bytes(range(255, 0, -1)) * 20)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "write", [truncated_zip, truncated_legacy, empty, web_page, lfs_pointer, noise], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("read", [read_state_dict, read_shapes])
def test_damaged_file_is_named_with_its_size_and_the_command(tmp_path, write, suffix, read):
    path = tmp_path / f"video_enc_sup_5{suffix}"
    write(path)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"{path.stat().st_size:,} bytes found, about 539 MB expected" in message
    assert "selva models download small_16k" in message


def test_truncated_safetensors_is_damaged(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_shapes(path)


def test_web_page_and_pointer_are_called_what_they_are(tmp_path):
    for write, words in ((web_page, "a web page"), (lfs_pointer, "a Git LFS pointer")):
        write(tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=words):
            read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("length", [ord("<") + 256, ord("{")])
def test_header_length_that_looks_like_text_is_read_as_a_length(tmp_path, length):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(4))
    assert read_state_dict(tmp_path / "w.safetensors")["a"].tolist() == [0.0]


@pytest.mark.parametrize("content", [{"a": 3}, {}, [torch.zeros(2)], {"a": {"b": torch.zeros(1)}}])
def test_content_that_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="not a state dict of tensors"):
        read_state_dict(tmp_path / "w.pth")


def test_missing_file_is_an_error_with_its_path(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth is not a file"):
        read_state_dict(tmp_path / "none.pth")


def test_conversion_has_equal_numbers_and_is_preferred_from_then_on(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    target = convert_to_safetensors(path)
    assert target == tmp_path / "w.safetensors"
    assert conversion_of(path) == target
    assert same(read_state_dict(target), state)
    status = path.stat()
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(read_state_dict(path), state)
    assert read_shapes(path).keys() == state.keys()


def test_conversion_is_made_once(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    before = convert_to_safetensors(path).stat().st_mtime_ns
    assert convert_to_safetensors(path).stat().st_mtime_ns == before
    assert convert_to_safetensors(tmp_path / "w.safetensors") == tmp_path / "w.safetensors"


def test_conversion_of_a_changed_source_is_not_used_and_is_made_anew(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    convert_to_safetensors(path)
    torch.save({"other": torch.ones(5)}, path)
    assert conversion_of(path) is None
    assert read_state_dict(path).keys() == {"other"}
    assert read_state_dict(convert_to_safetensors(path)).keys() == {"other"}


def test_strangers_safetensors_beside_a_file_is_neither_read_nor_overwritten(tmp_path, state):
    path, stranger = tmp_path / "w.pth", tmp_path / "w.safetensors"
    torch.save(state, path)
    write_safetensors(stranger, {"z": torch.zeros(1)})
    assert same(read_state_dict(path), state)
    with pytest.raises(CheckpointError, match="was not made from"):
        convert_to_safetensors(path)
    assert read_state_dict(stranger).keys() == {"z"}


def test_tensors_that_share_memory_are_stored_whole(tmp_path):
    base = torch.arange(6.0)
    tied = {"a": base, "b": base, "row": base.reshape(2, 3)[1], "t": base.reshape(2, 3).T}
    write_safetensors(tmp_path / "w.safetensors", tied)
    assert same(read_state_dict(tmp_path / "w.safetensors"), tied)


def test_written_files_are_as_readable_as_any_other(tmp_path, state):
    (tmp_path / "plain").write_bytes(b"")
    write_safetensors(tmp_path / "w.safetensors", state)
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_failed_write_leaves_what_was_there(tmp_path, state):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, state)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_safetensors(path, state, {"bad": 3})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def test_place_that_cannot_be_written_is_an_error_with_the_path(tmp_path, state):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        write_safetensors(tmp_path / "file" / "w.safetensors", state)


def test_objects_round_trip_and_appear_whole(tmp_path):
    content = {"state_dict": {"x.lora_A": torch.ones(2, 3)}, "meta": {"rank": 4, "target": ["attn.qkv"]}}
    write_object(tmp_path / "deep" / "adapter.pt", content)
    read = read_object(tmp_path / "deep" / "adapter.pt")
    assert read["meta"] == content["meta"]
    assert torch.equal(read["state_dict"]["x.lora_A"], content["state_dict"]["x.lora_A"])
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["adapter.pt"]
