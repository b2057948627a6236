import copy

import numpy as np
import pytest
import torch

import selva_audio as selva
from selva_audio.bundle import SelVAModel
from selva_audio.errors import InputError
from selva_audio.features import VideoFeatures, load_features
from selva_audio.media.loudness import lufs, peak_dbfs, rms_dbfs, true_peak_dbtp
from selva_audio.media.masks import mask_from_array
from selva_audio.options import FeatureOptions, GenerateOptions
from selva_audio.tasks.generate import extract_features, generate
from selva_audio.tasks.run import generate_for_video

QUICK = GenerateOptions(steps=1)
DOG = FeatureOptions(prompt="dog")


def sound(model: SelVAModel, features: VideoFeatures | None, **options) -> torch.Tensor:
    return generate(model, features, GenerateOptions(**{"steps": 1} | options)).waveform


@pytest.mark.parametrize("duration", [0.0, 0.1, 0.64, 1.234, 2.0])
def test_the_sound_has_the_exact_duration(demo_model, features, duration: float) -> None:
    audio = generate(demo_model, features, GenerateOptions(steps=1, duration=duration))
    assert audio.waveform.shape == (1, 1, round((duration or 2.0) * 16000))
    assert audio.waveform.dtype == torch.float32
    assert audio.waveform.abs().max() <= 1


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "rain"},
        {"negative_prompt": "wind"},
        {"duration": 1.0},
        {"steps": 2},
        {"cfg_strength": 2.0},
        {"seed": 1},
        {"takes": 2},
        {"solver": "heun"},
        {"normalize": False},
        {"loudness": "peak"},
        {"target_lufs": -40.0},
        {"true_peak_ceiling": -20.0},
        {"clip_conditioning": "off"},
    ],
    ids=str,
)
def test_every_option_changes_the_sound(demo_model, features, changed: dict) -> None:
    loud = {"target_lufs": -15.0}  # so that the ceiling matters
    usual, other = sound(demo_model, features, **loud), sound(demo_model, features, **loud | changed)
    assert usual.shape != other.shape or (usual - other).abs().max() > 1e-4


def test_all_options_are_covered_above() -> None:
    (marker,) = test_every_option_changes_the_sound.pytestmark
    assert {name for case in marker.args[1] for name in case} == set(GenerateOptions.model_fields)


def test_takes_of_a_batch_are_the_takes_alone(demo_model, features) -> None:
    batch = generate(demo_model, features, GenerateOptions(steps=1, seed=3, takes=3)).waveform
    assert batch.shape == (3, 1, 32000)
    for take in range(3):
        assert torch.equal(batch[take], sound(demo_model, features, seed=3 + take)[0])


def test_the_features_own_prompts_are_used_unless_others_are_given(demo_model, features) -> None:
    steered = VideoFeatures(features.clip, features.sync, prompt="dog", negative_prompt="wind", duration=2.0)
    assert torch.equal(sound(demo_model, steered), sound(demo_model, features, negative_prompt="wind"))
    assert torch.equal(sound(demo_model, features), sound(demo_model, features, prompt="dog"))


@pytest.mark.parametrize(
    ("mode", "target", "measure"),
    [
        ("rms", -45.0, lambda wave: rms_dbfs(wave)),
        ("peak", -12.0, lambda wave: peak_dbfs(wave)),
        ("lufs", -36.0, lambda wave: lufs(wave, 16000)),
    ],
)
def test_the_level_is_the_target_in_the_unit_of_the_mode(demo_model, features, mode, target, measure) -> None:
    wave = sound(demo_model, features, loudness=mode, target_lufs=target)[0]
    assert measure(wave) == pytest.approx(target, abs=0.05)


def test_the_true_peak_ceiling_wins_over_the_target(demo_model, features) -> None:
    audio = generate(demo_model, features, GenerateOptions(steps=1, target_lufs=0, true_peak_ceiling=-6))
    assert true_peak_dbtp(audio.waveform[0]) == pytest.approx(-6, abs=0.1)
    assert any("true peak" in note for note in audio.notes)


def test_each_take_gets_its_own_level(demo_model, features) -> None:
    takes = sound(demo_model, features, takes=2, target_lufs=-45)
    assert [rms_dbfs(take) for take in takes] == pytest.approx([-45, -45], abs=0.01)


def test_no_normalizing_leaves_the_vocoders_level(demo_model, features) -> None:
    raw = sound(demo_model, features, normalize=False)
    assert torch.equal(raw, sound(demo_model, features, normalize=True, loudness="none"))


def test_silence_is_told_and_left_alone(demo_model, features) -> None:
    vocoder = copy.deepcopy(demo_model.vocoder)
    with torch.no_grad():
        vocoder.conv_post.weight.zero_()
        vocoder.conv_post.bias.zero_()
    audio = generate(demo_model.replace(vocoder=vocoder), features, QUICK)
    assert not audio.waveform.any()
    assert any("silent" in note for note in audio.notes)


def test_a_wish_past_the_features_is_shortened_with_a_note(demo_model, features) -> None:
    audio = generate(demo_model, features, GenerateOptions(steps=1, duration=5.0))
    assert audio.duration == 2.0
    assert any("cover 2.00 s, so the sound is that long, not 5 s" in note for note in audio.notes)


def test_a_duration_that_the_rows_do_not_cover_is_not_believed(demo_model, features) -> None:
    boasting = VideoFeatures(features.clip, features.sync, prompt="dog", duration=10_000.0)
    audio = generate(demo_model, boasting, QUICK)
    assert audio.duration == pytest.approx(2.24)
    assert any("cover 2.24 s" in note for note in audio.notes)


def test_features_that_tell_no_duration_use_their_rows_or_ask_for_one(demo_model, features) -> None:
    untold = VideoFeatures(features.clip, features.sync, prompt="dog")
    assert generate(demo_model, untold, GenerateOptions(steps=1, duration=1.5)).duration == 1.5
    with pytest.raises(InputError, match="tell no duration"):
        generate(demo_model, untold, QUICK)


def test_under_the_shortest_stretch_there_is_a_note(demo_model, features) -> None:
    audio = generate(demo_model, features, GenerateOptions(steps=1, duration=0.3))
    assert audio.waveform.shape[-1] == 4800
    assert any("0.30 s are under the 0.64 s" in note for note in audio.notes)


def test_text_alone_makes_sound_with_mmaudio(mmaudio_model: SelVAModel) -> None:
    rain, dog = (sound(mmaudio_model, None, prompt=text, duration=1.0) for text in ("rain", "dog"))
    assert rain.shape == (1, 1, 16000)
    assert (rain - dog).abs().max() > 1e-4


def test_text_alone_with_selva_names_mmaudio(demo_model: SelVAModel) -> None:
    with pytest.raises(InputError, match="use an MMAudio variant"):
        generate(demo_model, None, QUICK)


def test_generating_leaves_every_weight_as_it_was(demo_model: SelVAModel, features) -> None:
    before = {
        part: {key: value.clone() for key, value in getattr(demo_model, part).state_dict().items()}
        for part in ("generator", "vae", "vocoder", "clip")
    }
    generate(demo_model, features, GenerateOptions(steps=2, takes=2))
    for part, state in before.items():
        after = getattr(demo_model, part).state_dict()
        assert all(torch.equal(after[key], value) for key, value in state.items()), part


def test_features_stay_usable_in_training(demo_model: SelVAModel, frames) -> None:
    features = extract_features(demo_model, frames(20), DOG)
    assert not features.sync.is_inference()
    scale = torch.ones(1, requires_grad=True)
    (features.sync * scale).sum().backward()
    assert scale.grad is not None


def test_an_alpha_channel_is_not_looked_at(demo_model: SelVAModel, frames) -> None:
    opaque = frames(20)
    alpha = np.random.default_rng(5).integers(0, 256, (*opaque.pixels.shape[:3], 1), dtype=np.uint8)
    rgba = selva.Frames(np.concatenate([opaque.pixels, alpha], axis=-1), opaque.times)
    assert torch.equal(
        extract_features(demo_model, rgba, DOG).sync, extract_features(demo_model, opaque, DOG).sync
    )


def test_a_mask_is_taken_as_numbers_too(demo_model: SelVAModel, frames) -> None:
    values = np.eye(4)
    masks = (values, torch.from_numpy(values), mask_from_array(values))
    rows = [extract_features(demo_model, frames(20), DOG, mask).sync for mask in masks]
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])


def test_a_mask_without_a_video_is_refused(mmaudio_model) -> None:
    with pytest.raises(InputError, match="A mask was given, but there is no video"):
        extract_features(mmaudio_model, None, DOG, mask_from_array(np.ones((2, 2), bool)))


def test_a_name_writes_numbered_features_past_the_cache(demo_model, clip, tmp_path) -> None:
    options = FeatureOptions(prompt="dog", name="take", cache_dir=tmp_path)
    first, second = (extract_features(demo_model, clip, options) for _ in range(2))
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["take_001.npz", "take_002.npz"]
    assert torch.equal(load_features(tmp_path / "take_002.npz").sync, second.sync)
    assert torch.equal(first.sync, second.sync)
    with pytest.raises(InputError, match="need a video"):
        extract_features(demo_model, None, options)


def test_the_public_names_are_these_functions() -> None:
    assert (selva.generate, selva.extract_features) == (generate, extract_features)
    assert selva.generate_for_video is generate_for_video
