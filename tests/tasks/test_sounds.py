"""Sets of sounds go through the same tools as single sounds."""

import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.media.loudness import lufs
from selva_audio.options import (
    CompressOptions,
    MatchOptions,
    NormalizeOptions,
    ResampleOptions,
    SmoothOptions,
)
from selva_audio.records import Audio
from selva_audio.tasks import audio as tools
from selva_audio.tasks import sounds as sets
from selva_audio.tasks.sounds import SoundClip, SoundSet

PAIRS = {
    "resample": (sets.resample_sounds, tools.resample_audio, ResampleOptions(target_sr=8000)),
    "normalize": (sets.normalize_sounds, tools.normalize_output, NormalizeOptions(target_lufs=-20)),
    "compress": (sets.compress_sounds, tools.compress, CompressOptions(threshold_db=-30)),
    "match": (sets.match_sounds, tools.match_spectrum, MatchOptions(mode="16k")),
    "smooth": (sets.smooth_sounds, tools.smooth_hf, SmoothOptions(cutoff_hz=4000)),
}


@pytest.fixture
def sounds() -> SoundSet:
    made = []
    for seed, name in enumerate("ab"):
        wave = 0.1 * torch.randn(1, 2, 16000, generator=torch.Generator().manual_seed(seed))
        made.append(SoundClip(Audio(wave, 16000), name, origin_name=f"{name}0"))
    return SoundSet(tuple(made))


@pytest.mark.parametrize("name", PAIRS)
def test_every_sound_becomes_what_the_audio_tool_makes_of_it(sounds: SoundSet, name: str) -> None:
    for_set, for_one, options = PAIRS[name]
    done = for_set(sounds, options)
    for before, after in zip(sounds.sounds, done.sounds, strict=True):
        alone = for_one(before.audio, options)
        assert torch.equal(after.audio.waveform, alone.audio.waveform)
        assert after.audio.sample_rate == alone.audio.sample_rate
        assert (after.name, after.origin_name) == (before.name, before.origin_name)
        assert f"{after.name}: {alone.reports[0].sentence}" in done.notes


def test_recordings_are_brought_to_the_level_of_training(sounds: SoundSet) -> None:
    for each in sets.normalize_sounds(sounds).sounds:
        assert lufs(each.audio.waveform[0], 16000) == pytest.approx(-23, abs=0.1)


def test_a_sound_that_is_refused_is_named(sounds: SoundSet) -> None:
    broken = SoundClip(Audio(torch.full((1, 1, 100), torch.nan), 16000), "torn")
    with pytest.raises(InputError, match="torn: The sound holds NaN"):
        sets.compress_sounds(SoundSet((*sounds.sounds, broken)))
