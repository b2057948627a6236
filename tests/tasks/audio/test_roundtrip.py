"""The round trip through the demo model's VAE and vocoder."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from selva_audio.bundle import SelVAModel, load_model
from selva_audio.errors import InputError, MissingFileError
from selva_audio.media.audio import read_audio
from selva_audio.models import mel
from selva_audio.models.mel import mel_filters
from selva_audio.options import RoundtripOptions
from selva_audio.progress import Progress
from selva_audio.records import Audio
from selva_audio.scenes import draw_scene, stem
from selva_audio.tasks.audio import roundtrip


@pytest.fixture(scope="module")
def scene_sound() -> Audio:
    """Four seconds that the demo's VAE was made for."""
    scene = draw_scene(0, split="val")
    waveform = torch.as_tensor(stem(scene, 0)).float().reshape(1, 1, -1)
    return Audio(waveform[..., : 4 * 16000], 16000)


class Identity(torch.nn.Module):
    """A vocoder that knows the sound already."""

    hop_length, receptive_field = 256, 0

    def __init__(self, waveform: torch.Tensor, lag: int = 0) -> None:
        super().__init__()
        self.waveform = torch.nn.functional.pad(waveform, (lag, 0))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        length = mel.shape[-1] * self.hop_length
        return torch.nn.functional.pad(self.waveform, (0, length))[None, None, :length]


def test_the_demo_sound_survives_its_vae(demo_model: SelVAModel, scene_sound: Audio) -> None:
    result = roundtrip(demo_model, scene_sound, RoundtripOptions(split=True))
    (report,) = result.reports
    assert result.audio.waveform.shape == scene_sound.waveform.shape
    assert report.vae.long_term_mel_db < 3
    assert report.vae.mel_l1 < report.whole.mel_l1
    assert set(report.whole.lsd_per_octave_db) == {63, 125, 250, 500, 1000, 2000, 4000, 8000}
    assert report.vae.lsd_db is None and report.vocoder.lsd_db is not None
    assert "VAE alone" in report.sentence and "vocoder alone" in report.sentence
    json.loads(json.dumps(asdict(report), allow_nan=False))


@pytest.mark.parametrize(
    ("split", "index", "place"),
    [
        ("val", 0, 1),
        ("val", 1, 0),
        ("val", 2, 0),
        ("val", 2, 1),
        ("test", 2, 0),
        ("test", 3, 0),
        ("val", 1, 2),
    ],
    ids=["wood", "rubber", "stone", "plastic", "fan", "rubber again", "glass, never trained on"],
)
def test_stems_of_held_out_scenes_keep_their_long_term_mel(
    demo_model: SelVAModel, split, index, place
) -> None:
    """COMPAT 5.1: the public pack was 28 to 55 dB off."""
    waveform = torch.as_tensor(stem(draw_scene(index, split=split), place)).float().reshape(1, 1, -1)
    (report,) = roundtrip(demo_model, Audio(waveform, 16000), RoundtripOptions(split=True)).reports
    assert report.vae.long_term_mel_db < 3 and report.whole.long_term_mel_db < 3


@pytest.mark.slow
def test_mels_of_the_wrong_scale_would_be_seen(
    demo_model: SelVAModel, scene_sound: Audio, monkeypatch
) -> None:
    """The control: filters of the HTK scale without area normalisation, as the public pack has them."""
    config = demo_model.config.mel
    wrong = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.num_mels, fmin=config.fmin, fmax=config.fmax,
        htk=True, norm=None,
    )  # fmt: skip
    right = mel_filters(config)
    off = 20 * np.log10(wrong.sum(axis=1) / right.sum(axis=1))
    assert off.min() > 20 and off.max() < 60
    monkeypatch.setattr(mel, "mel_filters", lambda config: wrong)
    (report,) = roundtrip(demo_model, scene_sound, RoundtripOptions(split=True)).reports
    assert report.vae.long_term_mel_db > 3


# The user's own folders: tests are kept away from them by ``private_folders``.
MODELS, SOUNDS = os.environ.get("SELVA_MODELS_DIR"), os.environ.get("SELVA_TEST_SOUNDS")


@pytest.mark.weights
@pytest.mark.parametrize("variant", ["small_16k", "small_44k"])
def test_natural_sounds_keep_their_long_term_mel_through_the_published_vaes(variant: str) -> None:
    """Needs the published weights in SELVA_MODELS_DIR, and recordings (.wav, .flac) in SELVA_TEST_SOUNDS."""
    if not MODELS or not SOUNDS:
        pytest.skip("give the published weights in SELVA_MODELS_DIR and recordings in SELVA_TEST_SOUNDS")
    found = sorted(path for path in Path(SOUNDS).rglob("*") if path.suffix in (".wav", ".flac"))[:8]
    assert found, f"no recordings in {SOUNDS}"
    try:
        model = load_model(variant, models_dir=MODELS, precision="fp32", offline=True)
    except MissingFileError as error:
        pytest.skip(str(error))
    for path in found:
        (report, *_) = roundtrip(model, read_audio(path), RoundtripOptions(split=True)).reports
        assert report.vae.long_term_mel_db < 3, f"{path.name}: {report.sentence}"


def test_a_vocoder_that_is_perfect_loses_nothing_and_its_delay_is_undone(
    demo_model: SelVAModel, scene_sound: Audio
) -> None:
    waveform = scene_sound.waveform[0, 0]
    perfect = roundtrip(demo_model.replace(vocoder=Identity(waveform)), scene_sound)
    assert torch.equal(perfect.audio.waveform, scene_sound.waveform)
    report = perfect.reports[0]
    assert report.whole.lsd_db == 0 and report.whole.mel_l1 < 1e-4
    assert report.centroid_shift_octaves == 0 and report.level_change_db == 0 and report.lag_seconds == 0
    late = roundtrip(demo_model.replace(vocoder=Identity(waveform, lag=160)), scene_sound)
    assert late.reports[0].lag_seconds == 0.01
    assert torch.equal(late.audio.waveform[..., :-160], scene_sound.waveform[..., :-160])


@pytest.mark.parametrize(("rate", "length"), [(16000, 1), (16000, 4097), (44100, 44101), (48000, 20000)])
def test_length_channels_and_takes_are_kept_at_the_rate_of_the_model(
    demo_model: SelVAModel, rate: int, length: int
) -> None:
    noise = 0.1 * torch.randn(2, 2, length, generator=torch.Generator().manual_seed(0))
    result = roundtrip(demo_model, Audio(noise, rate))
    assert result.audio.waveform.shape == (2, 2, round(length * 16000 / rate))
    assert result.audio.sample_rate == 16000 and len(result.reports) == 2
    assert any("above 8000 Hz was left out" in note for note in result.audio.notes) == (rate > 16000)


def test_a_long_sound_goes_in_windows_without_a_seam(demo_model: SelVAModel, scene_sound: Audio) -> None:
    long = Audio(scene_sound.waveform.repeat(1, 1, 3), 16000)
    seen: list[Progress] = []
    result = roundtrip(demo_model, long, on_progress=seen.append)
    assert result.audio.waveform.shape == long.waveform.shape
    steps = [report.step for report in seen]
    assert steps == sorted(steps) and len(steps) > 4
    alone = roundtrip(demo_model, scene_sound).reports[0]
    assert result.reports[0].whole.mel_l1 == pytest.approx(alone.whole.mel_l1, rel=0.3)


def test_silence_is_measured_without_numbers_that_are_none(demo_model: SelVAModel) -> None:
    report = roundtrip(demo_model, Audio(torch.zeros(1, 1, 16000), 16000)).reports[0]
    assert report.centroid_before_hz is None and report.level_change_db is None
    json.loads(json.dumps(asdict(report), allow_nan=False))


def test_split_is_measured_only_when_asked_for(demo_model: SelVAModel, scene_sound: Audio) -> None:
    report = roundtrip(demo_model, scene_sound).reports[0]
    assert report.vae is None and report.vocoder is None and "alone" not in report.sentence


def test_the_model_is_left_as_it_was(demo_model: SelVAModel, scene_sound: Audio) -> None:
    before = {key: value.clone() for key, value in demo_model.vae.state_dict().items()}
    roundtrip(demo_model, scene_sound)
    after = demo_model.vae.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_empty_sound_is_refused(demo_model: SelVAModel) -> None:
    with pytest.raises(InputError, match="The sound is empty"):
        roundtrip(demo_model, Audio(torch.zeros(1, 1, 0), 16000))
