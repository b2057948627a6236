"""The audio tools as nodes: batches and channels stay, every input counts, nothing is hidden."""

import math

import pytest
import torch

from selva_audio.errors import SelVAError

TOOLS = {
    "SelvaHfSmoother": {"cutoff_hz": 4000.0, "blend": 0.7},
    "SelvaSpectralMatcher": {"mode": "16k", "strength": 0.8, "max_gain_db": 12.0},
    "SelvaHarmonicExciter": {"cutoff_hz": 3000.0, "drive": 2.0, "mix": 0.15},
    "SelvaOutputNormalizer": {"target_lufs": -8.0, "true_peak_dbtp": -1.0},
    "SelvaVaeRoundtrip": {},
}
CHANGES = [
    ("SelvaHfSmoother", {"cutoff_hz": 6000.0}),
    ("SelvaHfSmoother", {"blend": 0.3}),
    ("SelvaHfSmoother", {"transition_hz": 300.0}),
    ("SelvaSpectralMatcher", {"mode": "44k"}),
    ("SelvaSpectralMatcher", {"strength": 0.4}),
    ("SelvaSpectralMatcher", {"max_gain_db": 2.0}),
    ("SelvaSpectralMatcher", {"keep_level": True}),
    ("SelvaHarmonicExciter", {"cutoff_hz": 2000.0}),
    ("SelvaHarmonicExciter", {"drive": 6.0}),
    ("SelvaHarmonicExciter", {"mix": 0.5}),
    ("SelvaOutputNormalizer", {"target_lufs": -24.0}),
    ("SelvaOutputNormalizer", {"true_peak_dbtp": -6.0}),
    ("SelvaOutputNormalizer", {"loudness": "rms"}),
    ("SelvaVaeRoundtrip", {"split": True}),
]


@pytest.fixture
def noise():
    rough = torch.randn(2, 2, 16000, generator=torch.Generator().manual_seed(1))
    return {"waveform": 0.05 * rough.cumsum(-1).diff(prepend=torch.zeros(2, 2, 1)), "sample_rate": 16000}


@pytest.fixture
def run(nodes, model, noise):
    def execute(name, audio=None, **settings):
        given = {"model": model} if name == "SelvaVaeRoundtrip" else {}
        return nodes[name].execute(**given, audio=audio or noise, **{**TOOLS[name], **settings}).args

    return execute


@pytest.mark.parametrize("name", TOOLS)
def test_takes_channels_length_and_rate_stay(run, noise, name):
    """COMPAT 5.17 and 5.18: no mono copies, no other length, no item left out."""
    before = noise["waveform"].clone()
    audio, picture, report = run(name)
    assert audio["waveform"].shape == (2, 2, 16000)
    assert audio["sample_rate"] == 16000
    assert not torch.equal(audio["waveform"][1], before[1])
    assert torch.equal(noise["waveform"], before)
    assert picture.shape[0] == 1
    assert "2 takes" in report


@pytest.mark.parametrize(("name", "settings"), CHANGES, ids=str)
def test_each_input_changes_sound_or_report(run, kept, name, settings):
    usual, other = kept(name, lambda: run(name)), run(name, **settings)
    assert not torch.equal(usual[0]["waveform"], other[0]["waveform"]) or usual[2] != other[2]


def test_six_channels_stay_and_the_player_plays_their_mean(run):
    surround = {"waveform": 0.1 * torch.randn(1, 6, 8000), "sample_rate": 16000}
    assert run("SelvaHarmonicExciter", surround)[0]["waveform"].shape == (1, 6, 8000)


def test_a_cutoff_above_half_the_rate_changes_nothing_and_says_so(run, noise):
    """COMPAT 5.17: there the public pack's filter was unstable."""
    audio, _, report = run("SelvaHfSmoother", cutoff_hz=12000.0)
    assert torch.allclose(audio["waveform"], noise["waveform"])
    assert "changes nothing" in report


def test_the_round_trip_leaves_level_and_length_alone(run):
    """COMPAT 5.18: the public pack's result was always 8 s at -27 dBFS."""
    quiet = {"waveform": 0.01 * torch.randn(1, 1, 12345), "sample_rate": 16000}
    audio, _, report = run("SelvaVaeRoundtrip", quiet)
    assert audio["waveform"].shape[-1] == 12345
    assert "level" in report


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    "audio", [{"waveform": torch.full((1, 1, 800), math.nan), "sample_rate": 16000}, {"x": 1}]
)
def test_what_is_no_sound_is_a_sentence(run, name, audio):
    with pytest.raises(SelVAError):
        run(name, audio)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SelvaHfSmoother", {"cutoff_hz": math.nan}),
        ("SelvaSpectralMatcher", {"mode": "../48k"}),
        ("SelvaHarmonicExciter", {"drive": 1e30}),
        ("SelvaOutputNormalizer", {"target_lufs": math.inf}),
    ],
)
def test_a_hostile_value_is_a_sentence(run, name, settings):
    with pytest.raises(SelVAError):
        run(name, **settings)
