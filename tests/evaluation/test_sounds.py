"""Self-checks of the metrics: nothing at identity, more with more of a known harm."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from selva_audio.configs import get_config
from selva_audio.evaluation.copies import COPY, likeness, memorisation
from selva_audio.evaluation.levels import sample_metrics
from selva_audio.evaluation.pack import pack_distances, pack_metrics
from selva_audio.evaluation.sets import kernel_distance, set_metrics, spread
from selva_audio.evaluation.sounds import SET_MEL, Scale, Sound, against, analyse, level, log_mel
from selva_audio.evaluation.spectra import descriptors, hf_ratio, long_term_spectrum, ltas_distance
from selva_audio.evaluation.timbre import mcd
from selva_audio.evaluation.timing import find_offset, timing_metrics
from selva_audio.media.loudness import lufs
from selva_audio.records import Audio
from selva_audio.scenes import draw_scene, stem

RATE = 16000
SCALE = Scale(get_config("demo_16k").mel, np.full(80, 0.7))
PAIRED = (
    "lsd",
    "spectral_convergence",
    "mel_l1",
    "mcd",
    "ltas_distance",
    "mel_gram_distance",
    "log_spectral_distance_db",
    "mel_cepstral_distortion",
)


def impacts(seed: int, material: str = "metal") -> np.ndarray:
    scene = draw_scene(seed, split="val", materials=(material,), num_objects=1, duration=3)
    return stem(scene, 0)


def sound(wave: np.ndarray, rate: int = RATE) -> Sound:
    return analyse(Audio(torch.from_numpy(wave.astype(np.float32))[None, None], rate), SCALE)


def low_pass(wave: np.ndarray, hertz: float) -> np.ndarray:
    return sosfilt(butter(4, hertz, fs=RATE, output="sos"), wave).astype(np.float32)


def with_noise(wave: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(len(wave)).astype(np.float32)
    power = float(np.square(wave).mean())
    return wave + noise * np.float32(math.sqrt(power / 10 ** (snr_db / 10)))


@pytest.fixture(scope="module")
def real() -> Sound:
    return sound(impacts(1))


def test_a_sound_is_at_no_distance_from_itself(real):
    numbers = against(real, real)
    assert {name: numbers[name] for name in PAIRED} == dict.fromkeys(PAIRED, 0)
    assert numbers["onset_f1_50ms"] == numbers["onset_recall_100ms"] == 1
    assert numbers["onset_error_ms"] == numbers["offset_ms"] == 0
    assert numbers["per_band_correlation"] == pytest.approx(1)


@pytest.fixture(scope="module")
def harmed(real) -> dict[str, list[dict]]:
    """Distances of a sound with less and less treble, and with more and more noise."""
    darker = [against(sound(low_pass(impacts(1), hertz)), real) for hertz in (6000, 3000, 1500, 700)]
    noisier = [against(sound(with_noise(impacts(1), snr)), real) for snr in (40, 20, 0)]
    return {"treble": darker, "noise": noisier}


@pytest.mark.parametrize("harm", ["treble", "noise"])
@pytest.mark.parametrize("name", PAIRED)
def test_more_of_a_harm_is_further_away(harmed, harm, name):
    values = [numbers[name] for numbers in harmed[harm]]
    assert values == sorted(values) and 0 < values[0] < values[-1]


@settings(max_examples=5)
@given(gain=st.floats(-20, 0))
def test_a_gain_changes_the_loudness_by_exactly_the_gain_and_no_distance(gain):
    wave = impacts(1) * np.float32(0.5)
    loud, quiet = sound(wave), sound(wave * np.float32(10 ** (gain / 20)))
    change = quiet.metrics["loudness_lufs"] - loud.metrics["loudness_lufs"]
    assert change == pytest.approx(gain, abs=0.1)  # two decimals each, and the absolute gate
    numbers = against(quiet, loud)
    assert all(numbers[name] < 0.02 for name in ("mel_l1", "ltas_distance", "mcd", "spectral_convergence"))
    assert numbers["onset_f1_50ms"] == 1


@settings(max_examples=10)
@given(delay=st.floats(0.0, 0.5))
def test_a_delay_is_told_as_the_offset_and_costs_onsets_once_it_leaves_the_window(delay):
    wave = impacts(1)
    samples = round(delay * RATE)
    late = np.concatenate([np.zeros(samples, np.float32), wave])[: len(wave)]
    assert find_offset(late, wave, RATE) == pytest.approx(delay, abs=0.006)
    numbers = timing_metrics(late, wave, RATE)
    if delay < 0.04:
        assert numbers["onset_recall_50ms"] > 0.8 and numbers["onset_error_ms"] < 50
    if 0.06 < delay < 0.09:
        assert numbers["onset_f1_50ms"] < numbers["onset_f1_100ms"]


def test_sounds_that_have_nothing_to_do_with_each_other_have_no_offset():
    assert find_offset(np.zeros(RATE, np.float32), impacts(1)[:RATE], RATE) is None
    silent = timing_metrics(impacts(1), np.zeros(4 * RATE, np.float32), RATE)
    assert silent["onset_f1_50ms"] is None


def test_a_tone_is_described_by_its_frequency():
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    shape = descriptors(tone, RATE)
    for name in ("centroid", "rolloff85", "rolloff95"):
        assert shape[name][0] == pytest.approx(1000, rel=0.02) and shape[name][1] < 20
    assert shape["zcr"][0] == pytest.approx(2000, rel=0.01)
    noise = descriptors(np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1, RATE)
    assert noise["flatness"][0] == pytest.approx(-2.5, abs=0.3)  # of one periodogram of white noise
    assert shape["flatness"][0] < -40 and shape["crest"][0] > noise["crest"][0] + 10
    assert noise["bandwidth"][0] == pytest.approx(8000 / math.sqrt(12), rel=0.05)
    assert descriptors(np.zeros(RATE, np.float32), RATE) is None


def test_a_tone_an_octave_higher_is_an_octave_away():
    time = np.arange(2 * RATE) / RATE
    low, high = (sound(0.1 * np.sin(2 * np.pi * hertz * time)) for hertz in (500, 1000))
    found = set_metrics([high, high], [low, low])
    for name in ("centroid", "rolloff85", "zcr"):
        assert found[f"{name}_distance"].value == pytest.approx(1, abs=0.03)


def test_energy_over_8_khz_is_what_is_there():
    time = np.arange(44100) / 44100
    waves = [np.sin(2 * np.pi * hertz * time) for hertz in (1000, 12000)]
    assert hf_ratio(sum(waves).astype(np.float32), 44100) == pytest.approx(0.5, abs=0.01)
    assert hf_ratio(impacts(1), RATE) is None and hf_ratio(np.zeros(44100, np.float32), 44100) is None


def test_a_shelf_of_known_height_is_the_distance_of_the_long_term_spectra():
    noise = np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / RATE) > 1000] *= 10 ** (-12 / 20)
    shelf = np.fft.irfft(spectrum, len(noise)).astype(np.float32)
    first, second = (long_term_spectrum(wave, RATE) for wave in (shelf, noise))
    # Nine bands lie above 1 kHz; of the one around it, the shelf lowers a half.
    expected = math.sqrt((9 * 12**2 + 2.75**2) / len(first))
    assert ltas_distance([first], [second]) == pytest.approx(expected, rel=0.01)


def test_a_ripple_of_the_spectrum_has_its_root_mean_square_as_cepstral_distortion():
    bands = np.arange(80)
    ripple = 4 / (20 / math.log(10)) * np.cos(np.pi * 3 * (bands + 0.5) / 80)
    flat = np.zeros((80, 5))
    assert mcd(flat + ripple[:, None], flat) == pytest.approx(4 / math.sqrt(2), rel=1e-6)
    assert mcd(flat + 2.0, flat) == pytest.approx(0, abs=1e-9)


def test_a_sound_is_brought_to_its_loudness_and_silence_stays():
    wave = level(impacts(1), RATE)
    assert lufs(torch.from_numpy(wave)[None], RATE) == pytest.approx(-23, abs=0.1)
    assert not level(np.zeros(RATE, np.float32), RATE).any()
    short = level(impacts(1)[:3000] + np.float32(0.01), RATE)
    assert 10 * math.log10(float(np.square(short).mean())) == pytest.approx(-23, abs=0.1)


def test_faults_of_samples_are_told():
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 100 * time).astype(np.float32)
    half = np.concatenate([0.5 * tone, np.zeros_like(tone)]) + np.float32(0.0)
    numbers = sample_metrics(half, RATE)
    assert numbers["silence_fraction"] == pytest.approx(0.5, abs=0.01) and numbers["noise_floor"] == -120
    assert numbers["clipping_fraction"] == 0 and numbers["loudness_range"] < 2
    assert sample_metrics(np.clip(2 * tone, -1, 1), RATE)["clipping_fraction"] > 0.5
    assert sample_metrics(0.1 * tone + np.float32(0.2), RATE)["dc"] == pytest.approx(0.2, abs=1e-3)
    loud_and_quiet = np.concatenate([0.5 * tone, 0.15 * tone])
    assert sample_metrics(loud_and_quiet, RATE)["loudness_range"] == pytest.approx(10.5, abs=1)
    assert sample_metrics(np.zeros(RATE, np.float32), RATE)["loudness_range"] is None


def test_silence_has_gaps_and_no_error():
    silent = sound(np.zeros(2 * RATE, np.float32))
    assert silent.metrics["loudness_lufs"] is None and "centroid" not in silent.metrics
    assert silent.metrics["spectral_centroid_hz"] is None and silent.windows.shape[1] == 80
    numbers = against(silent, sound(impacts(1)))
    assert all(value is None or math.isfinite(value) for value in numbers.values())


def test_numbers_of_the_pack_are_those_of_its_formulas():
    time = np.arange(2 * RATE) / RATE
    both = (np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 6000 * time)).astype(np.float32) / 2
    numbers = pack_metrics(both, RATE)
    assert numbers["hf_energy_ratio"] == pytest.approx(0.5, abs=0.01)
    assert numbers["spectral_centroid_hz"] == pytest.approx(3500, rel=0.01)
    assert numbers["spectral_rolloff_hz"] == pytest.approx(6000, rel=0.01)
    assert numbers["temporal_variance"] < 0.01 and numbers["spectral_flatness"] < 0.01
    halves = np.concatenate([both, np.zeros_like(both)])
    assert pack_metrics(halves, RATE)["temporal_variance"] == pytest.approx(1, abs=0.05)
    noisy = with_noise(both, 20)
    assert pack_distances(0.5 * noisy, noisy, RATE)["log_spectral_distance_db"] == pytest.approx(
        6.02, abs=0.01
    )


def test_a_moved_copy_is_found_and_another_sound_is_none():
    mels = [log_mel(level(impacts(seed), RATE), SET_MEL) for seed in (1, 2, 3)]
    moved = np.concatenate([np.zeros(4096, np.float32), impacts(1)])[: 3 * RATE]
    mel = log_mel(level(moved, RATE), SET_MEL)
    assert memorisation(mel, mels) > COPY and likeness(mels[0], mels[0]) == pytest.approx(1)
    assert memorisation(mels[0], mels[1:]) < 0.9 and memorisation(mel, []) == 0


def test_two_steady_sounds_of_one_spectrum_are_no_copies():
    rain = [np.random.default_rng(seed).standard_normal(4 * RATE).astype(np.float32) for seed in (0, 1)]
    mels = [log_mel(0.1 * wave, SET_MEL) for wave in rain]
    assert likeness(*mels) < 0.5 and likeness(np.zeros((80, 50)), mels[0]) == 0


@pytest.fixture(scope="module")
def sets() -> dict[str, list[Sound]]:
    """Eight sounds of metal twice (other scenes), darker and darker, and of wood."""
    waves = {"real": [impacts(seed) for seed in range(8)], "same": [impacts(seed) for seed in range(20, 28)]}
    waves |= {f"low {hertz}": [low_pass(wave, hertz) for wave in waves["same"]] for hertz in (3000, 1000)}
    waves["wood"] = [impacts(seed, "wood") for seed in range(20, 28)]
    return {name: [sound(wave) for wave in each] for name, each in waves.items()}


def kad(made: list[Sound], real: list[Sound]):
    return kernel_distance([each.windows for each in made], [each.windows for each in real])


def test_a_set_is_at_no_distance_from_itself(sets):
    found = set_metrics(sets["real"], sets["real"])
    assert all(each.value == pytest.approx(0, abs=1e-9) for each in found.values())
    kernel = kad(sets["real"], sets["real"])
    assert kernel.value <= kernel.null[1] and abs(kernel.value) < 0.1


def test_sets_of_one_kind_are_nearer_than_darker_ones_and_other_kinds(sets):
    for measure in (
        lambda made: kad(made, sets["real"]).value,
        lambda made: set_metrics(made, sets["real"])["ltas_distance"].value,
        lambda made: set_metrics(made, sets["real"])["mel_gram_distance"].value,
    ):
        same, dark, darker, wood = (measure(sets[name]) for name in ("same", "low 3000", "low 1000", "wood"))
        assert same < dark < darker and same < wood


def test_chance_explains_a_set_of_one_kind_and_not_another_kind(sets):
    same, wood = kad(sets["same"], sets["real"]), kad(sets["wood"], sets["real"])
    assert same.null[0] <= same.value <= same.null[1]
    assert wood.value > wood.null[1] and wood.low <= wood.value <= wood.high
    assert kernel_distance([sets["same"][0].windows], [each.windows for each in sets["real"]]) is None


def test_bounds_hold_the_value_and_are_narrower_with_more_sounds(sets):
    few, many = (set_metrics(sets["same"][:count], sets["real"])["centroid_distance"] for count in (3, 8))
    assert few.low <= few.high and many.low <= many.value <= many.high


def test_equal_sounds_have_no_spread_and_different_ones_have(sets):
    same = sets["real"][0]
    assert spread([same, same]) == 0 and spread([same]) is None
    assert spread(sets["real"]) > spread([same, sets["real"][1], same]) * 0.5 > 0


def test_rates_are_brought_together(real):
    time = np.arange(4 * 44100) / 44100
    wave = 0.1 * np.sin(2 * np.pi * 440 * time)
    at_16k = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)
    numbers = against(sound(wave, 44100), sound(at_16k))
    assert numbers["mel_l1"] < 0.05 and len(sound(wave, 44100).waveform) == 4 * RATE
    wide = replace(SCALE, mel=get_config("small_44k").mel, std=np.ones(128))
    audio = Audio(torch.from_numpy(wave.astype(np.float32))[None, None], 44100)
    assert analyse(audio, wide).gram.products.shape == (128, 128)
    assert against(analyse(audio, wide), analyse(audio, wide))["lsd"] == 0
