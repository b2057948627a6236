import numpy as np
import pytest
import torch

from selva_audio.dataset.inspection import inspect_sound, inspect_sounds, inspection_report
from selva_audio.dataset.sounds import SoundClip, SoundSet
from selva_audio.options import InspectOptions
from selva_audio.records import Audio

RATE = 44100
TIME = np.arange(4 * RATE) / RATE
NOISE = np.random.default_rng(0).standard_normal(len(TIME))


def hits(level: float) -> np.ndarray:
    """Hits of a second, above noise of a level."""
    past = TIME % 1.0
    return 0.5 * np.exp(-past / 0.1) * np.sin(2 * np.pi * 800 * past) + level * NOISE


def padded(wave: np.ndarray, share: float) -> np.ndarray:
    silent = np.zeros(len(wave))
    silent[: round((1 - share) * len(wave))] = wave[: round((1 - share) * len(wave))]
    return silent


LOW_SOUND = np.cumsum(NOISE) * 2e-4
LOW_SOUND = LOW_SOUND - LOW_SOUND.mean()
COLUMNS = np.fft.rfft(0.1 * NOISE)
COLUMNS[np.fft.rfftfreq(len(NOISE), 1 / RATE) > 12000] *= 1e-5
CUT_OFF = np.fft.irfft(COLUMNS, len(NOISE))

# What is heard -> the faults that it has with the usual options.
SOUNDS = {
    "rain": (0.1 * NOISE, set()),
    "engine": (0.1 * sum(np.sin(2 * np.pi * 80 * k * TIME + k) / k for k in range(1, 20)), set()),
    "low rumble": (LOW_SOUND, set()),
    "clean hits": (hits(1e-4), set()),
    "hits in noise": (hits(0.1), {"noise"}),
    "hits in noise, then silence": (padded(hits(0.1), 0.45), {"noise"}),
    "mostly silence": (padded(0.1 * NOISE, 0.7), {"silence"}),
    "silence": (np.zeros(len(TIME)), {"silence"}),
    "clipped": ((4 * hits(0.0)).clip(-0.9, 0.9), {"clipping"}),
    "cut off at 12 kHz": (CUT_OFF, {"codec"}),
    "not numbers": (np.full(len(TIME), np.nan), {"no_sound"}),
    "empty": (np.zeros(0), {"no_sound"}),
}
SWITCHES = {
    "hits in noise": {"min_snr_db": 3.0},
    "mostly silence": {"max_silence_fraction": 0.8},
    "cut off at 12 kHz": {"check_codec_artifacts": False},
}


def audio(wave: np.ndarray) -> Audio:
    return Audio(torch.from_numpy(np.asarray(wave, np.float32))[None, None], RATE)


def sounds(*names: str) -> SoundSet:
    return SoundSet(tuple(SoundClip(audio(SOUNDS[name][0]), name) for name in names))


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_is_rejected_for_what_is_wrong_with_it_alone(name: str) -> None:
    """COMPAT 5.19: steady sounds were rejected, padded ones passed, low ones called coded."""
    wave, expected = SOUNDS[name]
    assert set(inspect_sound(name, audio(wave), InspectOptions()).faults) == expected


@pytest.mark.parametrize("name", SWITCHES)
def test_each_option_decides_its_fault(name: str) -> None:
    options = InspectOptions(**SWITCHES[name])
    assert inspect_sound(name, audio(SOUNDS[name][0]), options).faults == {}


def test_numbers_are_those_of_the_sound() -> None:
    known = inspect_sound("x", audio(padded(0.1 * NOISE, 0.25)), InspectOptions())
    assert (known.seconds, known.sample_rate) == (4.0, RATE)
    assert known.silence_fraction == pytest.approx(0.25, abs=0.02)
    assert known.lufs == pytest.approx(-18, abs=4)
    assert known.true_peak_dbtp == pytest.approx(20 * np.log10(np.abs(0.1 * NOISE).max()), abs=2)
    assert known.snr_db is None and known.band_limit_hz is None


def test_rejected_sounds_are_left_out_unless_kept() -> None:
    three = sounds("rain", "silence", "clean hits")
    kept, found = inspect_sounds(three)
    assert [each.name for each in kept.sounds] == ["rain", "clean hits"]
    assert len(found) == 3 and kept.notes == ("silence: It is silent.",)
    everything, _ = inspect_sounds(three, InspectOptions(skip_rejected=False))
    assert everything.sounds == three.sounds


def test_the_report_has_a_line_for_each_and_the_count() -> None:
    _, found = inspect_sounds(sounds("rain", "hits in noise"))
    head, rain, noisy, count = inspection_report(found).splitlines()
    assert head.split()[0] == "name" and rain.endswith("passes")
    assert "above its background" in noisy
    assert count == "1 of 2 sounds pass."
