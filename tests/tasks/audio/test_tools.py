"""The tools that need no model: laws that hold for all of them, and what each option changes."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.errors import InputError
from selva_audio.media.loudness import lufs, rms_dbfs, true_peak_dbtp
from selva_audio.options import (
    CompressOptions,
    ExciteOptions,
    MatchOptions,
    NormalizeOptions,
    ResampleOptions,
    SmoothOptions,
)
from selva_audio.progress import Cancelled, Progress
from selva_audio.records import Audio
from selva_audio.tasks.audio import (
    compress,
    excite,
    match_spectrum,
    normalize_output,
    resample_audio,
    smooth_hf,
)

TOOLS = {
    "smooth_hf": smooth_hf,
    "match_spectrum": match_spectrum,
    "excite": excite,
    "normalize_output": normalize_output,
    "compress": compress,
}
COLOUR = {name: tool for name, tool in TOOLS.items() if name not in ("normalize_output", "compress")}


def sound(seconds: float = 1.0, rate: int = 44100, takes: int = 1, channels: int = 1, seed: int = 0) -> Audio:
    values = np.random.default_rng(seed).standard_normal((takes, channels, round(seconds * rate)))
    return Audio(torch.from_numpy(0.1 * values).float(), rate)


@pytest.mark.parametrize("name", TOOLS)
@settings(max_examples=8)
@given(
    st.sampled_from([16000, 44100, 48000]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.floats(0.1, 1.0),
)
def test_rate_length_channels_and_takes_are_kept(name, rate, takes, channels, seconds) -> None:
    audio = sound(seconds, rate, takes, channels)
    before = audio.waveform.clone()
    result = TOOLS[name](audio)
    assert result.audio.waveform.shape == audio.waveform.shape
    assert result.audio.sample_rate == rate
    assert len(result.reports) == takes
    assert torch.equal(audio.waveform, before)


@pytest.mark.parametrize("name", TOOLS)
def test_every_take_is_what_it_would_be_alone(name: str) -> None:
    takes = [sound(seed=seed).waveform * 10 ** (-seed / 2) for seed in range(3)]
    together = TOOLS[name](Audio(torch.cat(takes), 44100))
    for index, take in enumerate(takes):
        alone = TOOLS[name](Audio(take, 44100))
        assert torch.equal(together.audio.waveform[index : index + 1], alone.audio.waveform)
        assert together.reports[index] == alone.reports[0]


@pytest.mark.parametrize("name", TOOLS)
def test_silence_comes_back_as_it_is_and_reports_survive_json(name: str) -> None:
    audio = Audio(torch.zeros(1, 2, 44100), 44100)
    result = TOOLS[name](audio)
    assert torch.equal(result.audio.waveform, audio.waveform)
    for report in (*result.reports, *TOOLS[name](sound()).reports):
        json.loads(json.dumps(asdict(report), allow_nan=False))
        assert report.sentence.endswith(".")


@pytest.mark.parametrize("name", TOOLS)
def test_what_holds_no_sound_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(InputError, match="The sound is empty"):
        TOOLS[name](Audio(torch.zeros(1, 1, 0), 44100))
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="NaN or infinite"):
            TOOLS[name](Audio(torch.full((1, 1, 44100), bad), 44100))


@pytest.mark.parametrize("name", TOOLS)
def test_progress_is_told_and_cancels(name: str) -> None:
    seen: list[Progress] = []
    TOOLS[name](sound(takes=2), on_progress=seen.append)
    steps = [report.step / report.total for report in seen]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 1

    def cancel(report: Progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        TOOLS[name](sound(), on_progress=cancel)


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("level", [0.3, 9.0])
def test_peaks_stay_under_the_ceiling_or_where_they_were(name: str, level: float) -> None:
    audio = Audio(sound(0.3).waveform * level / 0.3, 44100)
    result = COLOUR[name](audio)
    allowed = max(-1.0, true_peak_dbtp(audio.waveform[0]))
    assert true_peak_dbtp(result.audio.waveform[0]) <= allowed + 1e-3
    is_noted = any("turned down" in note for note in result.audio.notes)
    assert is_noted == (result.reports[0].peak_guard_db < -0.05)


@pytest.mark.parametrize(
    ("tool", "default", "changes"),
    [
        (smooth_hf, SmoothOptions(), {"cutoff_hz": 9000.0, "blend": 0.4, "transition_hz": 300.0}),
        (
            match_spectrum,
            MatchOptions(),
            {"mode": "16k", "strength": 0.4, "max_gain_db": 2.0, "keep_level": True},
        ),
        (excite, ExciteOptions(), {"cutoff_hz": 8000.0, "drive": 6.0, "mix": 0.6}),
        (
            normalize_output,
            NormalizeOptions(),
            {"target_lufs": -30.0, "true_peak_dbtp": -6.0, "loudness": "rms"},
        ),
    ],
    ids=[*COLOUR, "normalize_output"],
)
def test_every_option_changes_the_sound(tool, default, changes) -> None:
    assert set(changes) == set(type(default).model_fields)
    audio = sound()
    usual = tool(audio, default).audio.waveform
    for name, value in changes.items():
        changed = tool(audio, default.model_copy(update={name: value})).audio.waveform
        assert not torch.equal(changed, usual), name


def test_notes_of_the_sound_are_kept_and_takes_are_named() -> None:
    audio = Audio(torch.cat([sound().waveform, torch.zeros(1, 1, 44100)]), 44100, notes=("before",))
    notes = normalize_output(audio, NormalizeOptions(target_lufs=-20)).audio.notes
    assert notes == ("before", "Take 2: The sound is silent, so it was left as it is.")


def test_a_cutoff_beyond_the_sound_is_said() -> None:
    audio = sound(rate=16000)
    for tool, options in ((smooth_hf, SmoothOptions()), (excite, ExciteOptions(cutoff_hz=16000))):
        result = tool(audio, options)
        assert torch.equal(result.audio.waveform, audio.waveform)
        assert "holds nothing above 8000 Hz" in result.audio.notes[0]


def test_the_smoother_reports_what_it_took() -> None:
    report = smooth_hf(sound(), SmoothOptions(blend=0.5)).reports[0]
    assert report.high_gain_db == pytest.approx(-6.02, abs=0.01)
    # White noise has 23 % of its power above 11.5 kHz, and half the amplitude of that was taken.
    share = 1 - 11500 / 22050
    assert report.removed_db == pytest.approx(10 * math.log10(0.25 * share), abs=0.5)
    assert smooth_hf(sound(), SmoothOptions(blend=0)).reports[0].removed_db is None
    assert smooth_hf(sound(), SmoothOptions(blend=1)).reports[0].high_gain_db is None


def test_the_matcher_reports_its_curve_and_a_distance_that_falls() -> None:
    report = match_spectrum(sound(rate=16000), MatchOptions(mode="16k")).reports[0]
    assert len(report.bands_hz) == len(report.gains_db) == 80
    assert report.distance_after < report.distance_before
    assert report.colour_after < 0.5 * report.colour_before


@pytest.mark.parametrize(("mode", "measure"), [("lufs", lufs), ("rms", lambda take, rate: rms_dbfs(take))])
def test_the_normalizer_reaches_its_target(mode: str, measure) -> None:
    result = normalize_output(sound(channels=2), NormalizeOptions(target_lufs=-25, loudness=mode))
    assert measure(result.audio.waveform[0], 44100) == pytest.approx(-25, abs=0.05)
    assert result.reports[0].level_after == pytest.approx(-25, abs=0.05)


def test_the_normalizer_never_passes_its_ceiling_and_says_what_it_cost() -> None:
    result = normalize_output(sound(), NormalizeOptions(target_lufs=0, true_peak_dbtp=-3))
    assert true_peak_dbtp(result.audio.waveform[0]) == pytest.approx(-3, abs=1e-3)
    assert "turned down" in result.audio.notes[0]


@pytest.mark.parametrize("audio", [sound(0.2), sound(0.5, channels=6)], ids=["short", "channels"])
def test_what_lufs_cannot_measure_passes_unchanged_with_a_note(audio: Audio) -> None:
    result = normalize_output(audio)
    assert torch.equal(result.audio.waveform, audio.waveform)
    assert "LUFS needs 0.4 s of sound in 1 to 5 channels" in result.audio.notes[0]
    assert result.reports[0].level_before is None
    assert not torch.equal(
        normalize_output(audio, NormalizeOptions(loudness="rms")).audio.waveform, audio.waveform
    )


def test_compressing_tells_how_deep_it_went_and_what_the_level_lost() -> None:
    loud = sound()
    done = compress(loud, CompressOptions(threshold_db=-30, ratio=4, mix=1))
    (report,) = done.reports
    change = rms_dbfs(done.audio.waveform) - rms_dbfs(loud.waveform)
    assert report.level_change_db == pytest.approx(change) and change < -3
    assert report.deepest_gain_db < change
    assert f"{-report.deepest_gain_db:.1f} dB" in report.sentence
    for options in (CompressOptions(mix=0), CompressOptions(threshold_db=-6)):
        (report,) = compress(sound(), options).reports
        assert "as it was" in report.sentence and report.deepest_gain_db == 0


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_resampling_gives_the_rate_and_keeps_the_length_in_seconds(rate: int) -> None:
    done = resample_audio(sound(0.5, takes=2, channels=2), ResampleOptions(target_sr=rate))
    assert done.audio.sample_rate == rate
    assert done.audio.waveform.shape == (2, 2, rate // 2)
    assert (len(done.audio.notes) == 2) == (rate == 96000)
    assert f"{rate} Hz" in done.reports[0].sentence
