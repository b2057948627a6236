import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import selva_audio.features.encode as encode_module
from selva_audio.bundle import SelVAModel, load_model
from selva_audio.configs import CLIP_RATE, SYNC_RATE
from selva_audio.errors import InputError, MediaError
from selva_audio.features import VideoFeatures, encode_video, encoder_id, features_without_video
from selva_audio.media.grid import Shown
from selva_audio.media.masks import mask_from_array
from selva_audio.media.transforms import to_clip
from selva_audio.media.video import stream_arrays
from selva_audio.options import FeatureOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.records import Frames

PROMPT = FeatureOptions(prompt="dog")


@torch.no_grad()
def encode(model: SelVAModel, source, options: FeatureOptions = PROMPT, mask=None, **values) -> VideoFeatures:
    return encode_video(model, source, options, mask, **values)


def changed(frames: Frames, index: object) -> Frames:
    """A copy with some pixels inverted."""
    pixels = frames.pixels.copy()
    pixels[index] = 255 - pixels[index]
    return Frames(pixels, frames.times)


@torch.no_grad()
def one_shot(model: SelVAModel, frames: Frames, **stretch) -> tuple[Tensor, Tensor]:
    """Sync and CLIP rows of all sampled frames, each in a single encoder call."""
    grids = {
        rate: [sample.frame for sample in stream_arrays(frames, {rate: None}, **stretch)]
        for rate in (SYNC_RATE, CLIP_RATE)
    }
    text = model.t5.encode_text(["dog"])
    sync = model.video_encoder.encode(to_clip(np.stack(grids[SYNC_RATE]))[None] * 2 - 1, *text)
    return sync, model.clip.encode_image(to_clip(np.stack(grids[CLIP_RATE]))[None])


@pytest.mark.parametrize("count", [16, 17, 23, 24, 71, 72, 73, 79, 80, 81, 88, 136, 143, 145])
def test_encoding_in_blocks_is_encoding_at_once(demo_model: SelVAModel, frames, count: int) -> None:
    clip = frames(count, height=64, width=64)
    features = encode(demo_model, clip)
    sync, images = one_shot(demo_model, clip)
    assert features.sync.shape[1] == 8 * ((count - 16) // 8 + 1)
    assert features.clip.shape[1] == int(count / 25 * 8)
    torch.testing.assert_close(features.sync, sync[:, : features.sync.shape[1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.clip, images[:, : features.clip.shape[1]], rtol=1e-4, atol=1e-5)
    assert features.duration == count / 25


def with_stills(frames: Frames) -> Frames:
    """A copy whose frames stand still from 7 to 49 and from 62 on."""
    pixels = frames.pixels.copy()
    pixels[7:50], pixels[62:] = pixels[7], pixels[62]
    return Frames(pixels, frames.times)


@contextmanager
def batches_of(module: nn.Module) -> Iterator[list[int]]:
    """Sizes of the batches that ``module`` gets inside the block."""
    seen: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("kind", ["demo_model", "mmaudio_model"])
def test_what_stands_still_is_encoded_once_to_the_same_rows(
    request, frames, monkeypatch: pytest.MonkeyPatch, kind: str, block: int
) -> None:
    model = request.getfixturevalue(kind)
    monkeypatch.setattr(encode_module, "_BLOCK_ON_CPU", block)
    clip, extractor = with_stills(frames(100, height=64, width=64)), model.video_encoder.vfeat_extractor
    with (
        batches_of(extractor.patch_embed_3d) as segments,
        batches_of(model.image_clip.visual_projection) as images,
    ):
        features = encode(model, clip)
    # 11 segments; those from frames 16, 24 and 32 show what that from 8 does, those from 72 and 80 what 64.
    assert sum(segments) == 11 - 3 - 2
    # Frames 0 and 4, one for those from 7 to 47, frames 50, 54, 57 and 60, and one for the rest.
    assert sum(images) == 2 + 1 + 4 + 1
    monkeypatch.setattr(encode_module._Blocks, "_repeats", lambda *_: False)
    plain = encode(model, clip)
    if block == 1:
        assert torch.equal(features.sync, plain.sync) and torch.equal(features.clip, plain.clip)
    torch.testing.assert_close(features.sync, plain.sync, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.clip, plain.clip, rtol=1e-4, atol=1e-5)


def test_a_still_picture_behind_a_moving_mask_is_encoded_anew(demo_model: SelVAModel, frames) -> None:
    still = frames(1, height=64, width=64)
    still = Frames(still.pixels.repeat(40, 0), np.arange(40) / 25)
    masks = np.ones((40, 2, 2), bool)
    masks[20:, 0] = False
    plain = encode(demo_model, still)
    assert torch.equal(plain.sync[:, :8], plain.sync[:, -8:])
    masked = encode(demo_model, still, mask=mask_from_array(masks))
    torch.testing.assert_close(masked.sync[:, :8], plain.sync[:, :8])
    assert (masked.sync[:, 8:] - plain.sync[:, 8:]).abs().max() > 1e-3


def test_a_prompt_is_read_once_for_several_videos(frames) -> None:
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with batches_of(model.t5.encoder.embed_tokens) as read:
        first, second, other = (
            encode(model, frames(16, seed=seed), FeatureOptions(prompt=text))
            for seed, text in ((0, "dog"), (1, "dog"), (0, "cat"))
        )
        again = encode(load_model("demo_16k", device="cpu", precision="fp32"), frames(16, seed=1))
    assert len(read) == 2
    assert torch.equal(second.sync, again.sync)
    assert not torch.equal(first.sync, other.sync)


def test_a_record_tells_where_it_came_from(demo_model: SelVAModel, frames) -> None:
    options = FeatureOptions(prompt="dog", negative_prompt="wind")
    features = encode(demo_model, frames(20, fps=20), options)
    assert (features.prompt, features.negative_prompt, features.source) == ("dog", "wind", "frames")
    assert (features.variant, features.fps) == ("demo_16k", pytest.approx(20))
    assert features.encoder_id == encoder_id(demo_model, options)
    assert features.sync.dtype == features.clip.dtype == torch.float32


@pytest.mark.parametrize("count", [1, 2, 15])
def test_under_one_segment_the_last_frame_is_held(demo_model: SelVAModel, frames, count: int) -> None:
    short = frames(count, height=64, width=64)
    held = Frames(np.concatenate([short.pixels, short.pixels[-1:].repeat(16 - count, 0)]), np.arange(16) / 25)
    features = encode(demo_model, short)
    assert features.duration == pytest.approx(count / 25)
    assert features.clip.shape[1] == max(int(count / 25 * 8), 1)
    torch.testing.assert_close(features.sync, encode(demo_model, held).sync)


def test_no_frames_at_all_are_an_error(demo_model: SelVAModel) -> None:
    with pytest.raises(InputError, match="no frames"):
        encode(demo_model, Frames(np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0)))


def test_a_stretch_without_a_picture_is_an_error(demo_model: SelVAModel, frames) -> None:
    late = Frames(frames(20).pixels, 1.0 + np.arange(20) / 25)
    with pytest.raises(InputError, match="no picture in the stretch"):
        encode(demo_model, late, FeatureOptions(duration=0.5))


def test_start_and_duration_choose_the_stretch(demo_model: SelVAModel, frames) -> None:
    clip, stretch = frames(75, height=64, width=64), {"start": 0.4, "duration": 1.0}
    part = encode(demo_model, clip, FeatureOptions(prompt="dog", **stretch))
    assert (part.duration, part.clip.shape[1], part.sync.shape[1]) == (1.0, 8, 16)
    samples = list(stream_arrays(clip, {SYNC_RATE: None}, **stretch))
    assert all(abs(each.time - (0.4 + each.index / 25)) < 0.041 for each in samples)
    sync, images = one_shot(demo_model, clip, **stretch)
    torch.testing.assert_close(part.sync, sync[:, :16], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part.clip, images[:, :8], rtol=1e-4, atol=1e-5)


def test_a_start_past_the_end_is_an_error(demo_model: SelVAModel, frames) -> None:
    with pytest.raises(InputError, match="start = 3 s is past the end"):
        encode(demo_model, frames(50), FeatureOptions(start=3.0))


def test_a_duration_past_the_end_gives_what_is_there(demo_model: SelVAModel, frames) -> None:
    features = encode(demo_model, frames(50), FeatureOptions(duration=60.0))
    assert (features.duration, features.sync.shape[1]) == (2.0, 40)


def test_fps_overrides_the_times(demo_model: SelVAModel, frames) -> None:
    slow = frames(50, fps=12.5)
    assert encode(demo_model, slow).duration == pytest.approx(4.0)
    assumed = encode(demo_model, slow, FeatureOptions(prompt="dog", fps=25))
    assert assumed.duration == pytest.approx(2.0)
    torch.testing.assert_close(assumed.sync, encode(demo_model, frames(50)).sync)


def test_the_prompt_decides_the_sync_features_of_selva(demo_model: SelVAModel, frames) -> None:
    dog, rain = (encode(demo_model, frames(20), FeatureOptions(prompt=text)) for text in ("dog", "rain"))
    assert (dog.sync - rain.sync).abs().max() > 1e-3
    assert torch.equal(dog.clip, rain.clip)


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_clip_rows_are_made_as_asked_or_as_trained(demo_model: SelVAModel, frames, mode: str) -> None:
    features = encode(demo_model, frames(50), FeatureOptions(clip_conditioning=mode))
    wanted = mode == "on" or (mode == "auto" and demo_model.config.clip_conditioning)
    assert features.clip.shape == (1, 16 if wanted else 0, 64)


def test_a_still_mask_of_any_size_hides_what_lies_outside(demo_model: SelVAModel, frames) -> None:
    left = mask_from_array(np.arange(10)[None].repeat(4, 0) < 5)
    clip = frames(20)
    hidden, seen = (slice(None), slice(None), slice(26, None)), (slice(None), slice(None), slice(0, 22))
    plain = encode(demo_model, clip)
    masked = encode(demo_model, clip, mask=left)
    assert (plain.sync - masked.sync).abs().max() > 1e-3
    assert (plain.clip - masked.clip).abs().max() > 1e-3
    outside = encode(demo_model, changed(clip, hidden), mask=left)
    # The resize to the encoder's size spreads a pixel over its neighbours, so the two are only near.
    assert (outside.sync - masked.sync).abs().max() < 0.05 * (plain.sync - masked.sync).abs().max()
    inside = encode(demo_model, changed(clip, seen), mask=left)
    assert (inside.sync - masked.sync).abs().max() > 1e-2


def test_an_empty_mask_hides_everything_and_a_full_one_nothing(demo_model: SelVAModel, frames) -> None:
    empty, full = (mask_from_array(np.full((3, 3), value)) for value in (False, True))
    first, second = (encode(demo_model, frames(20, seed=seed), mask=empty) for seed in (0, 1))
    assert torch.equal(first.sync, second.sync) and torch.equal(first.clip, second.clip)
    assert torch.equal(encode(demo_model, frames(20), mask=full).sync, encode(demo_model, frames(20)).sync)


def test_mask_options_decide_where_and_how_strongly(demo_model: SelVAModel, frames) -> None:
    clip, mask = frames(20), mask_from_array(np.zeros((2, 2), bool))
    plain, masked = encode(demo_model, clip), encode(demo_model, clip, mask=mask)

    def result(**values) -> VideoFeatures:
        return encode(demo_model, clip, FeatureOptions(prompt="dog", **values), mask)

    assert torch.equal(result(mask_sync=False).sync, plain.sync)
    assert torch.equal(result(mask_sync=False).clip, masked.clip)
    assert torch.equal(result(mask_clip=False).clip, plain.clip)
    assert torch.equal(result(mask_clip=False).sync, masked.sync)
    assert torch.equal(result(mask_strength=0).sync, plain.sync)
    half = result(mask_strength=0.5).sync
    assert not torch.allclose(half, plain.sync, atol=1e-3)
    assert not torch.allclose(half, masked.sync, atol=1e-3)


def test_one_mask_per_frame_belongs_to_its_frame(demo_model: SelVAModel, frames) -> None:
    clip = frames(40)
    values = np.ones((40, 2, 2), bool)
    values[16:] = False
    masked = encode(demo_model, clip, mask=mask_from_array(values))
    plain = encode(demo_model, clip)
    torch.testing.assert_close(masked.sync[:, :8], plain.sync[:, :8])  # frames 0 to 15
    assert (masked.sync[:, 8:] - plain.sync[:, 8:]).abs().amax(-1).min() > 1e-3


def test_fewer_masks_than_frames_are_spread_over_the_clip(demo_model: SelVAModel, frames) -> None:
    clip = frames(40)
    two = encode(
        demo_model, clip, mask=mask_from_array(np.stack([np.ones((2, 2), bool), np.zeros((2, 2), bool)]))
    )
    values = np.ones((40, 2, 2), bool)
    values[20:] = False
    torch.testing.assert_close(two.sync, encode(demo_model, clip, mask=mask_from_array(values)).sync)


def test_progress_reaches_the_end_and_cancels(demo_model: SelVAModel, frames) -> None:
    seen: list[Progress] = []
    encode(demo_model, frames(50), on_progress=seen.append)
    assert [each.total for each in seen] == [50] * 50
    assert [each.step for each in seen] == list(range(50))

    def cancel(progress: Progress) -> None:
        if progress.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode(demo_model, frames(50), on_progress=cancel)


def test_mmaudio_crops_the_sync_frames_and_squashes_those_of_clip(mmaudio_model: SelVAModel, frames) -> None:
    wide = frames(20, height=32, width=64)
    sides = changed(wide, (slice(None), slice(None), [0, 1, 2, 3, 60, 61, 62, 63]))
    plain, other = (encode(mmaudio_model, each) for each in (wide, sides))
    assert torch.equal(plain.sync, other.sync)
    assert (plain.clip - other.clip).abs().max() > 1e-3
    middle = encode(mmaudio_model, Frames(np.ascontiguousarray(wide.pixels[:, :, 16:48]), wide.times))
    torch.testing.assert_close(middle.sync, plain.sync)


def test_mmaudio_masks_are_cropped_with_their_frames(mmaudio_model: SelVAModel, frames) -> None:
    wide = frames(20, height=32, width=64)
    sides = np.ones((32, 64), bool)
    sides[:, :16] = sides[:, 48:] = False
    masked = encode(mmaudio_model, wide, mask=mask_from_array(sides))
    assert torch.equal(masked.sync, encode(mmaudio_model, wide).sync)
    assert (masked.clip - encode(mmaudio_model, wide).clip).abs().max() > 1e-3


def test_the_prompt_is_nothing_to_the_encoders_of_mmaudio(mmaudio_model: SelVAModel, frames) -> None:
    dog, rain = (encode(mmaudio_model, frames(20), FeatureOptions(prompt=text)) for text in ("dog", "rain"))
    assert torch.equal(dog.sync, rain.sync)
    assert mmaudio_model.identity("video_encoder") in encoder_id(mmaudio_model, PROMPT)


@pytest.fixture
def picture(tmp_path: Path, frames) -> Path:
    from matplotlib.image import imsave

    imsave(tmp_path / "still.png", frames(1, height=50, width=70).pixels[0])
    return tmp_path / "still.png"


def test_a_picture_becomes_its_clip_row_for_every_token(mmaudio_model: SelVAModel, picture: Path) -> None:
    features = encode(mmaudio_model, picture, FeatureOptions(prompt="rain", duration=2.5))
    assert features.sync.shape == (1, 0, 32)
    assert features.clip.shape == (1, 20, 24)
    assert torch.equal(features.clip, features.clip[:, :1].expand(-1, 20, -1))
    assert (features.duration, features.source) == (2.5, "still.png")
    assert encode(mmaudio_model, picture).duration == 8.0


def test_a_picture_is_masked_and_says_what_it_ignores(
    mmaudio_model: SelVAModel, picture: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = mask_from_array(np.zeros((2, 2), bool))
    plain, masked = encode(mmaudio_model, picture), encode(mmaudio_model, picture, mask=empty)
    assert (plain.clip - masked.clip).abs().max() > 1e-3
    kept = encode(mmaudio_model, picture, FeatureOptions(prompt="dog", mask_clip=False), empty)
    assert torch.equal(kept.clip, plain.clip)
    with caplog.at_level(logging.WARNING):
        encode(mmaudio_model, picture, FeatureOptions(start=1.0))
    assert "start and fps have no effect" in caplog.text


def test_a_picture_without_clip_is_refused(mmaudio_model: SelVAModel, picture: Path) -> None:
    with pytest.raises(InputError, match="heard through CLIP alone"):
        encode(mmaudio_model, picture, FeatureOptions(clip_conditioning="off"))


def test_selva_refuses_a_picture_and_no_video_and_names_mmaudio(
    demo_model: SelVAModel, picture: Path
) -> None:
    with pytest.raises(InputError, match=r"use an MMAudio variant \(mmaudio_large_44k_v2"):
        encode(demo_model, picture)
    with pytest.raises(InputError, match="use an MMAudio variant"):
        features_without_video(demo_model, PROMPT)


def test_without_video_mmaudio_takes_its_duration_from_the_options(mmaudio_model: SelVAModel) -> None:
    features = features_without_video(mmaudio_model, FeatureOptions(prompt="rain", duration=3.0))
    assert (features.clip.shape, features.sync.shape) == ((1, 0, 24), (1, 0, 32))
    assert (features.prompt, features.duration) == ("rain", 3.0)


def test_a_file_gives_the_features_of_its_frames(demo_model: SelVAModel, make_clip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", np.arange(30) / 25)
    features = encode(demo_model, path)
    read = [sample.frame for sample in _read(path)]
    again = encode(demo_model, Frames(np.stack(read), np.arange(30) / 25))
    assert features.duration == again.duration == 1.2
    torch.testing.assert_close(features.sync, again.sync)
    assert features.source == "a.mp4"


def _read(path: Path) -> list[Shown]:
    from selva_audio.media.container import open_media, video_stream
    from selva_audio.media.decode import Decoder

    with open_media(path) as container:
        decoder = Decoder(container, video_stream(container, "a"), name="a", file_bytes=path.stat().st_size)
        return [Shown(each.time, each.seconds, decoder.rgb(each.frame)) for each in decoder]


def test_what_is_no_video_is_a_media_error(demo_model: SelVAModel, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(MediaError, match=r"a\.mp4"):
        encode(demo_model, tmp_path / "a.mp4")
