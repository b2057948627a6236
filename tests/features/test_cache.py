import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from selva_audio.bundle import SelVAModel
from selva_audio.errors import InputError, OutputError
from selva_audio.features import FeatureCache, VideoFeatures, default_cache_dir, load_features, source_digest
from selva_audio.media.masks import mask_from_array
from selva_audio.options import FeatureOptions
from selva_audio.records import Frames
from selva_audio.tasks.generate import extract_features

DOG = FeatureOptions(prompt="dog")
SMALL = VideoFeatures(torch.ones(1, 2, 4), torch.ones(1, 8, 4), prompt="dog", duration=0.8)


@pytest.fixture
def cached(demo_model: SelVAModel, tmp_path: Path):
    """``cached(frames, ...)``: features through the cache, and whether an encoder ran for them."""

    def extract(source, options: FeatureOptions = DOG, mask=None, model=demo_model):
        calls: list[nn.Module] = []
        hook = model.video_encoder.register_forward_pre_hook(lambda module, _: calls.append(module))
        handles = [each.register_forward_pre_hook(lambda module, _: calls.append(module))
                   for each in model.video_encoder.children()]  # fmt: skip
        try:
            options = options.model_copy(update={"cache_dir": tmp_path / "cache"})
            return extract_features(model, source, options, mask), bool(calls)
        finally:
            for handle in (hook, *handles):
                handle.remove()

    return extract


def test_equal_content_hits_without_encoding_again(cached, frames) -> None:
    first, encoded = cached(frames(20))
    again, encoded_again = cached(frames(20))
    assert (encoded, encoded_again) == (True, False)
    assert torch.equal(first.sync, again.sync) and torch.equal(first.clip, again.clip)
    assert (first.duration, first.prompt, first.fps) == (again.duration, again.prompt, again.fps)


@pytest.mark.parametrize("frame", [0, 1, 20, 39])
def test_one_changed_pixel_anywhere_misses(cached, frames, frame: int) -> None:
    clip = frames(40, fps=100)  # the grids take every fourth frame: 1 and 39 are not among them
    cached(clip)
    clip.pixels[frame, 17, 23, 1] ^= 1
    assert cached(clip)[1]


def test_a_changed_time_misses(cached, frames) -> None:
    clip = frames(20)
    cached(clip)
    assert cached(Frames(clip.pixels, clip.times + 1e-9))[1]


def test_the_shape_is_part_of_the_content() -> None:
    pixels = np.arange(2 * 4 * 6 * 3, dtype=np.uint8)
    tall, wide = (Frames(pixels.reshape(2, h, w, 3), np.arange(2.0)) for h, w in ((6, 4), (4, 6)))
    assert source_digest(tall) != source_digest(wide)


def test_pixels_in_another_memory_order_are_the_same_content(frames) -> None:
    clip = frames(3)
    turned = Frames(np.asfortranarray(clip.pixels), clip.times)
    assert source_digest(turned) == source_digest(clip)


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "cat"},
        {"fps": 24.0},
        {"start": 0.2},
        {"duration": 0.7},
        {"clip_conditioning": "off"},
        {"mask_strength": 0.5},
        {"mask_clip": False},
        {"mask_sync": False},
    ],
    ids=str,
)
def test_every_option_that_changes_the_features_misses(cached, frames, changed: dict) -> None:
    mask = mask_from_array(np.eye(4))
    plain, _ = cached(frames(20), mask=mask)
    other, encoded = cached(frames(20), FeatureOptions(**{"prompt": "dog"} | changed), mask)
    assert encoded
    assert not (torch.equal(plain.sync, other.sync) and torch.equal(plain.clip, other.clip))


def test_the_mask_is_part_of_the_key(cached, frames) -> None:
    cached(frames(20))
    assert cached(frames(20), mask=mask_from_array(np.eye(4)))[1]
    assert not cached(frames(20), mask=mask_from_array(np.eye(4)))[1]
    assert cached(frames(20), mask=mask_from_array(1 - np.eye(4)))[1]


def test_a_hit_carries_the_negative_prompt_and_name_of_this_call(cached, frames, make_clip, tmp_path) -> None:
    cached(frames(20), FeatureOptions(prompt="dog", negative_prompt="wind"))
    again, encoded = cached(frames(20), FeatureOptions(prompt="dog", negative_prompt="rain"))
    assert (encoded, again.negative_prompt) == (False, "rain")
    path = make_clip(tmp_path / "a.mp4", np.arange(20) / 25)
    cached(path)
    moved, encoded = cached(path.rename(tmp_path / "b.mp4"))
    assert (encoded, moved.source) == (False, "b.mp4")


def test_other_encoder_weights_miss_and_equal_ones_hit(cached, frames, demo_model: SelVAModel) -> None:
    def copied(value: float) -> SelVAModel:
        encoder = copy.deepcopy(demo_model.video_encoder)
        with torch.no_grad():
            next(encoder.parameters()).view(-1)[0] = value
        return demo_model.replace(video_encoder=encoder)

    cached(frames(20))
    first, encoded = cached(frames(20), model=copied(0.5))
    assert encoded
    assert not cached(frames(20), model=copied(0.5))[1]
    assert cached(frames(20), model=copied(0.6))[1]
    assert first.encoder_id.count("sha256:") == 1


def test_weights_that_no_encoder_uses_do_not_miss(cached, frames, demo_model: SelVAModel) -> None:
    cached(frames(20))
    assert not cached(frames(20), model=demo_model.replace(vae=copy.deepcopy(demo_model.vae)))[1]


def test_another_precision_or_size_of_the_encoders_misses(cached, frames, demo_model: SelVAModel) -> None:
    cached(frames(20))
    config, policy = demo_model.config, demo_model.policy
    others = [
        (config, replace(policy, precision="bf16")),
        (replace(config, clip=replace(config.clip, tokenizer="clip_bpe")), policy),
    ]
    for other in others:
        assert cached(frames(20), model=SelVAModel(*other, demo_model._parts))[1]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_a_torn_file_is_made_again(cached, frames, tmp_path: Path, content: bytes) -> None:
    first, _ = cached(frames(20))
    (path,) = (tmp_path / "cache").glob("*.npz")
    whole = path.read_bytes()
    for torn in (content, whole[:-40]):
        path.write_bytes(torn)
        again, encoded = cached(frames(20))
        assert encoded and torch.equal(first.sync, again.sync)
        assert load_features(path).prompt == "dog"


def test_a_folder_that_cannot_be_written_does_not_stop_the_work(
    demo_model: SelVAModel, frames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    options = FeatureOptions(cache_dir=tmp_path / "file" / "cache")
    assert extract_features(demo_model, frames(20), options).sync.shape == (1, 8, 96)
    assert "were not kept" in caplog.text


def test_the_default_folder_is_the_users_cache(demo_model: SelVAModel, frames) -> None:
    extract_features(demo_model, frames(20))
    (path,) = default_cache_dir().glob("*.npz")
    assert len(path.stem) == 64
    assert FeatureCache().folder == default_cache_dir()


_WRITER = """
import sys; from pathlib import Path
import torch
from selva_audio.features import FeatureCache, VideoFeatures
cache, value = FeatureCache(Path(sys.argv[1])), float(sys.argv[2])
features = VideoFeatures(torch.full((1, 500, 64), value), torch.full((1, 800, 64), value), duration=30.0)
for _ in range(20):
    cache.put("key", features)
    cache.put_numbered("dog", features)
    got = cache.get("key")
    assert got is not None and len({*got.clip.unique().tolist(), *got.sync.unique().tolist()}) == 1
"""


def test_two_writers_leave_whole_files_and_never_share_a_number(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), value]) for value in "12"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert load_features(tmp_path / "key.npz").clip.unique().numel() == 1
    numbered = sorted(tmp_path.glob("dog_*.npz"))
    assert [path.name for path in numbered] == [f"dog_{number:03d}.npz" for number in range(1, 41)]
    values = [load_features(path).clip[0, 0, 0].item() for path in numbered]
    assert sorted(values) == [1.0] * 20 + [2.0] * 20
    assert not list(tmp_path.glob(".*.part*"))


def test_numbers_start_at_one_and_go_on(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    names = [cache.put_numbered("dog bark", SMALL).name for _ in range(3)]
    assert names == ["dog bark_001.npz", "dog bark_002.npz", "dog bark_003.npz"]


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    assert cache.put_numbered("../dog", SMALL).parent == tmp_path / "cache"
    with pytest.raises(InputError, match="cannot be used as a file name"):
        cache.put_numbered("..", SMALL)


def test_a_cache_in_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        FeatureCache(tmp_path / "file").put("key", SMALL)
