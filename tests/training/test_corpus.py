import pytest
import torch
from small_style import RATE, toy_corpus, write_tones

from selva_audio.errors import InputError, MissingFileError
from selva_audio.media.audio import write_audio
from selva_audio.records import Audio
from selva_audio.training.corpus import read_corpus, recording_of, segment, split_corpus, with_mels


def test_folders_are_searched_with_all_that_is_in_them(tmp_path):
    write_tones(tmp_path, 1)
    write_tones(tmp_path / "deep" / "er", 2, suffix=".flac")
    write_tones(tmp_path / ".hidden", 1)
    (tmp_path / "notes.txt").write_text("nothing")
    corpus = read_corpus(tmp_path, RATE)
    assert corpus.names == ("deep/er/sounda.flac", "deep/er/soundb.flac", "sounda.wav")
    assert all(wave.ndim == 1 and wave.dtype == torch.float32 for wave in corpus.waves)
    assert corpus.sample_rate == RATE and corpus.notes == ()


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_formats_are_read(tmp_path, suffix):
    import soundfile

    time = torch.arange(RATE) / RATE
    soundfile.write(tmp_path / f"a.{suffix}", torch.sin(1000 * time).numpy(), RATE, format=suffix.upper())
    assert read_corpus(tmp_path, RATE).waves[0].shape[0] == pytest.approx(RATE, abs=2500)


def test_sounds_become_mono_at_the_rate_of_the_model(tmp_path):
    stereo = torch.stack([torch.full((44100,), 0.5), torch.full((44100,), -0.1)])[None]
    write_audio(tmp_path / "a.wav", Audio(stereo, 44100))
    wave = read_corpus(tmp_path, RATE).waves[0]
    assert wave.shape == (RATE,) and float(wave[4000:12000].mean()) == pytest.approx(0.2, abs=1e-3)


def test_one_sound_in_two_formats_counts_once_and_always_the_same_one(tmp_path):
    write_tones(tmp_path, 1, suffix=".flac")
    write_tones(tmp_path, 1)
    corpus = read_corpus(tmp_path, RATE)
    assert corpus.names == ("sounda.wav",)
    assert "sounda.flac" in corpus.notes[0]


def test_what_cannot_be_used_is_named(tmp_path):
    write_tones(tmp_path, 1)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    write_audio(tmp_path / "short.wav", Audio(torch.ones(1, 1, 100), RATE))
    write_audio(tmp_path / "still.wav", Audio(torch.zeros(1, 1, RATE), RATE))
    corpus = read_corpus(tmp_path, RATE)
    assert corpus.names == ("sounda.wav",)
    told = " ".join(corpus.notes)
    assert all(
        part in told
        for part in ("broken.wav", "short.wav is left out", "still.wav is left out: it is silent")
    )
    (tmp_path / "sounda.wav").unlink()
    with pytest.raises(InputError, match="No sound in"):
        read_corpus(tmp_path, RATE)
    with pytest.raises(MissingFileError, match="There is no folder"):
        read_corpus(tmp_path / "no", RATE)


def test_the_fingerprint_is_of_names_content_and_rate(tmp_path):
    write_tones(tmp_path, 2)
    first = read_corpus(tmp_path, RATE).fingerprint
    assert read_corpus(tmp_path, RATE).fingerprint == first
    assert read_corpus(tmp_path, 44100).fingerprint != first
    write_tones(tmp_path, 2, seconds=0.5)
    assert read_corpus(tmp_path, RATE).fingerprint != first


def test_parts_of_one_recording_are_on_one_side():
    assert recording_of("a/bell_001.wav") == recording_of("a/bell_002.flac") == "a/bell"
    assert recording_of("bell_001_aug01.wav") == "bell" and recording_of("b/bell.wav") == "b/bell"
    corpus = toy_corpus(8)
    corpus = corpus.take(range(8))
    object.__setattr__(corpus, "names", tuple(f"bell{index // 2}_{index}.wav" for index in range(8)))
    train, held = split_corpus(corpus, 0.25, 0)
    assert len(train) == 6 and len(held) == 2
    assert not {recording_of(name) for name in train.names} & {recording_of(name) for name in held.names}
    assert split_corpus(corpus, 0.25, 0)[1].names == held.names
    assert (
        len(split_corpus(corpus, 0.0, 0)[1]) == 0 and len(split_corpus(corpus.take([0, 2]), 0.5, 0)[1]) == 0
    )


def test_a_stretch_is_of_whole_frames_and_filled_with_silence():
    corpus = toy_corpus(1)
    wave = corpus.waves[0]
    part, mel = segment(corpus, 0, 10, 256, 0.5)
    first = int(0.5 * (len(wave) // 256 - 10 + 1))
    assert mel is None and torch.equal(part, wave[first * 256 : (first + 10) * 256])
    long, _ = segment(corpus, 0, 40, 256, 0.9)
    assert torch.equal(long[: len(wave)], wave) and float(long[len(wave) :].abs().max()) == 0


def test_a_mel_and_its_sound_are_cut_at_the_same_time():
    corpus = toy_corpus(2)
    mel = torch.arange(80 * 20).reshape(80, 20).float()
    paired = with_mels(corpus, {"soundb.wav": mel}, "adapter")
    assert paired.names == ("soundb.wav",) and "sounda.wav is left out" in paired.notes[0]
    assert paired.fingerprint != corpus.fingerprint
    part, rows = segment(paired, 0, 4, 256, 0.99)
    assert torch.equal(rows, mel[:, 16:20]) and torch.equal(part, corpus.waves[1][16 * 256 : 20 * 256])
    with pytest.raises(InputError, match="features beside it"):
        with_mels(corpus, {}, "adapter")
