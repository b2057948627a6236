from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.media.audio import read_audio, write_audio
from selva_audio.records import Audio

TOY = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu")
COMMANDS = {
    "roundtrip": (TOY, {"whole", "vae", "vocoder", "centroid_shift_octaves", "lag_seconds"}),
    "smooth-hf": (("--cutoff-hz", 5000), {"high_gain_db", "removed_db"}),
    "match-spectrum": (("--mode", "16k"), {"distance_before", "distance_after", "bands_hz", "gains_db"}),
    "excite": (("--mix", 0.3), {"added_db"}),
    "compress": (("--threshold-db", -40), {"deepest_gain_db", "level_change_db"}),
    "normalize": (("--target-lufs", -20), {"unit", "level_before", "level_after"}),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = 0.05 * np.random.default_rng(0).standard_normal((1, 1, 16000))
    path = tmp_path_factory.mktemp("sound") / "in.wav"
    return write_audio(path, Audio(torch.from_numpy(values).float(), 16000))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_writes_its_file_and_reports(selva, source: Path, tmp_path: Path, command: str) -> None:
    flags, keys = COMMANDS[command]
    output = tmp_path / "out.wav"
    result = selva("audio", command, source, "--output", output, *flags, "--json")
    assert result.code == 0, result.err
    assert keys | {"output", "notes"} <= set(result.json)
    assert result.json["output"] == str(output)
    assert f"Done: {output}" in result.err
    made, given = read_audio(output), read_audio(source)
    assert made.waveform.shape == given.waveform.shape and not torch.equal(made.waveform, given.waveform)


def test_the_output_may_be_the_second_word_and_its_flag_short(selva, source: Path, tmp_path: Path) -> None:
    assert selva("audio", "excite", source, tmp_path / "a.wav").code == 0
    assert selva("audio", "excite", source, "-o", tmp_path / "b.wav").code == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_split_is_shown_when_asked_for(selva, source: Path, tmp_path: Path) -> None:
    result = selva("audio", "roundtrip", source, "-o", tmp_path / "out.flac", *TOY, "--split", "--json")
    assert result.json["vae"]["mel_l1"] > 0 and result.json["vocoder"]["lsd_db"] > 0
    assert "vocoder alone" in result.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["smooth-hf", "missing.wav", "-o", "out.wav"], "missing.wav"),
        (["smooth-hf", "in.wav"], "--output"),
        (["smooth-hf", "in.wav", "-o", "out.mp3"], "must end in .wav or .flac"),
        (["smooth-hf", "in.wav", "-o", "in.wav"], "inputs are never changed"),
        (["smooth-hf", "in.wav", "-o", "out.wav", "--blend", "2"], "less than or equal to 1"),
        (["excite", "in.wav", "-o", "out.flac", "--sample-format", "float32"], "pcm16 or pcm24"),
        (["match-spectrum", "in.wav", "-o", "out.wav", "--mode", "48k"], "48k"),
        (["normalize", "in.wav", "-o", "out.wav", "--target-lufs", "loud"], "loud"),
        (["roundtrip", "in.wav", "-o", "out.wav", "--variant", "demo"], "Unknown variant"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence_and_exit_two(
    selva, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.wav").write_bytes(source.read_bytes())
    result = selva("audio", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err and "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_sound_gets_the_rate_that_is_asked_for(selva, source: Path, tmp_path: Path) -> None:
    result = selva("audio", "resample", source, "-o", tmp_path / "out.flac", "--target-sr", 22050, "--json")
    assert result.json["rate_after"] == 22050 and result.json["rate_before"] == 16000
    assert read_audio(tmp_path / "out.flac").sample_rate == 22050
