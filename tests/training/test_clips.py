from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import write_audio
from selva_audio.records import Audio
from selva_audio.training.clips import Clips, ClipSource, encode_clips, padded

RATE = 16000


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., ClipSource]:
    """``make_source("a", seconds=8.0, segments=24, clip_rows=64)``: the files of a clip of noise."""

    def make(
        name: str,
        *,
        seconds: float = 8.0,
        rate: int = RATE,
        segments: int = 24,
        clip_rows: int = 64,
        prompt: str = "glass",
        seed: int = 0,
        widths: tuple[int, int] = (64, 96),
    ) -> ClipSource:
        random = np.random.default_rng(seed)
        wave = 0.1 * torch.from_numpy(random.standard_normal(round(seconds * rate))).float()
        audio = write_audio(tmp_path / f"{name}.wav", Audio(wave[None, None], rate), subtype="float32")
        clip, sync = (
            torch.from_numpy(random.standard_normal((1, rows, width))).float()
            for rows, width in zip((clip_rows, 8 * segments), widths, strict=True)
        )
        npz = save_features(
            tmp_path / f"{name}.npz", VideoFeatures(clip, sync, prompt=prompt, duration=seconds)
        )
        return ClipSource(name, npz, audio, prompt, name)

    return make


def encoded(model, sources, tmp_path: Path, **settings) -> Clips:
    return encode_clips(model, sources, cache_dir=tmp_path / "latents", **settings)


def test_clips_have_the_lengths_of_eight_seconds(demo_model, make_source, tmp_path):
    clips = encoded(demo_model, [make_source("a"), make_source("b", seed=1, prompt="stone")], tmp_path)
    lengths = demo_model.config.lengths(8.0)
    assert clips.mean.shape == clips.std.shape == (2, lengths.latent, 20)
    assert clips.clip.shape[1] == lengths.clip and clips.sync.shape[1] == lengths.sync
    assert clips.valid.all() and clips.has_clip.all() and bool((clips.std > 0).all())
    assert clips.encoded == 2 and len(clips) == 2 and clips.prompts == ("glass", "stone")
    assert not torch.equal(clips.text[0], clips.text[1])
    assert not any(getattr(clips, name).requires_grad for name in ("mean", "std", "text"))


def test_the_latent_is_that_of_the_vae(demo_model, make_source, tmp_path):
    source = make_source("a")
    clips = encoded(demo_model, [source], tmp_path)
    from selva_audio.media.audio import read_audio

    wave = read_audio(source.audio).waveform[0]
    with torch.no_grad():
        wanted = demo_model.vae.encode(demo_model.mel(wave))
    assert torch.allclose(clips.mean, wanted.mean, atol=1e-5) and torch.allclose(
        clips.std, wanted.std, atol=1e-5
    )


def test_a_known_sound_is_not_encoded_again(demo_model, make_source, tmp_path):
    sources = [make_source("a"), make_source("b", seed=1)]
    first = encoded(demo_model, sources, tmp_path)
    again = encoded(demo_model, sources, tmp_path)
    assert (first.encoded, again.encoded) == (2, 0)
    assert torch.equal(first.mean, again.mean) and first.fingerprint == again.fingerprint
    for path in (tmp_path / "latents").iterdir():
        path.write_bytes(path.read_bytes()[:100])  # torn
    torn = encoded(demo_model, sources, tmp_path)
    assert torn.encoded == 2 and torch.equal(first.mean, torn.mean)
    grown = encoded(demo_model, [*sources, make_source("c", seed=2)], tmp_path)
    assert grown.encoded == 1 and grown.fingerprint != first.fingerprint


@pytest.mark.parametrize("change", ["sound", "features", "prompt", "split", "pad"])
def test_the_fingerprint_follows_whatever_is_trained_on(demo_model, make_source, tmp_path, change):
    source = make_source("a")
    before = encoded(demo_model, [source], tmp_path).fingerprint
    settings = {"pad": "loop"} if change == "pad" else {}
    if change == "sound":
        write_audio(source.audio, Audio(torch.zeros(1, 1, RATE), RATE))
    elif change == "features":
        save_features(source.npz, VideoFeatures(torch.zeros(1, 64, 64), torch.zeros(1, 192, 96)))
    elif change != "pad":
        source = replace(source, **{change: "val" if change == "split" else "stone"})
    assert encoded(demo_model, [source], tmp_path, **settings).fingerprint != before


def test_short_features_repeat_their_last_row_and_the_tail_does_not_count(demo_model, make_source, tmp_path):
    clips = encoded(demo_model, [make_source("a", segments=11, clip_rows=30)], tmp_path)
    assert torch.equal(clips.sync[0, 88:], clips.sync[0, 87].expand(192 - 88, -1))
    assert torch.equal(clips.clip[0, 30:], clips.clip[0, 29].expand(34, -1))
    seen = (16 + 8 * 11) / 25  # seconds, with the step that segments leave out
    assert int(clips.valid.sum()) == pytest.approx(seen * demo_model.config.latent_rate, abs=1)
    assert bool(clips.valid[0, : int(clips.valid.sum())].all())


def test_long_features_are_cut(demo_model, make_source, tmp_path):
    source = make_source("a", segments=40, clip_rows=100, seconds=12.0)
    from selva_audio.features import load_features

    clips = encoded(demo_model, [source], tmp_path)
    assert clips.valid.all() and torch.equal(clips.sync[0], load_features(source.npz).sync[0, :192])


def test_a_short_sound_counts_up_to_a_quarter_second_after_its_end(demo_model, make_source, tmp_path):
    clips = encoded(demo_model, [make_source("a", seconds=3.0)], tmp_path)
    rate = demo_model.config.latent_rate
    assert int(clips.valid.sum()) == pytest.approx(3.25 * rate, abs=1)


def test_padding_is_silence_or_the_sound_again_or_backwards():
    wave = torch.tensor([1.0, 2.0, 3.0])
    assert padded(wave, 7, "zero").tolist() == [1, 2, 3, 0, 0, 0, 0]
    assert padded(wave, 7, "loop").tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert padded(wave, 7, "reflect").tolist() == [1, 2, 3, 3, 2, 1, 1]
    assert padded(wave, 2, "loop").tolist() == [1, 2]


def test_features_without_clip_frames_are_told_apart(demo_model, make_source, tmp_path):
    clips = encoded(demo_model, [make_source("a"), make_source("b", clip_rows=0)], tmp_path)
    assert clips.has_clip.tolist() == [True, False] and not clips.clip[1].any()


def test_sounds_of_other_rates_and_channels_are_brought_to_the_models(demo_model, make_source, tmp_path):
    clips = encoded(demo_model, [make_source("a", rate=44100), make_source("b", rate=8000)], tmp_path)
    assert clips.mean.shape[1] == demo_model.config.lengths(8.0).latent
    (note,) = clips.notes
    assert "several sample rates (8000, 44100 Hz). All are brought to 16000 Hz" in note
    assert note.endswith("those of 8000 Hz have nothing above 4000 Hz.")
    assert not encoded(demo_model, [make_source("c", rate=44100)], tmp_path).notes


def bad(source: ClipSource, kind: str) -> ClipSource:
    if kind == "nan":
        import soundfile

        wave = np.zeros(RATE, dtype=np.float32)
        wave[5] = np.nan
        soundfile.write(source.audio, wave, RATE, subtype="FLOAT")
    elif kind == "empty":
        import soundfile

        soundfile.write(source.audio, np.zeros(0, dtype=np.float32), RATE)
    elif kind == "torn features":
        source.npz.write_bytes(source.npz.read_bytes()[:50])
    elif kind == "no sound":
        source.audio.unlink()
    elif kind == "nan features":
        save_features(source.npz, VideoFeatures(torch.full((1, 64, 64), torch.nan), torch.zeros(1, 192, 96)))
    return source


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("nan", "holds NaN or infinite samples"),
        ("empty", "no samples|holds no sound"),
        ("torn features", "not a readable feature file"),
        ("no sound", "b.wav"),
        ("nan features", "not finite"),
    ],
)
def test_a_bad_clip_is_left_out_with_one_sentence_and_alone_it_is_refused(
    demo_model, make_source, tmp_path, kind, sentence
):
    import re

    source = bad(make_source("b", seed=1), kind)
    clips = encoded(demo_model, [make_source("a"), source], tmp_path)
    assert clips.names == ("a",) and len(clips.notes) == 1
    assert clips.notes[0].startswith("b is left out: ") and re.search(sentence, clips.notes[0])
    with pytest.raises(InputError, match="No clip can be used for training"):
        encoded(demo_model, [source], tmp_path)


def test_features_of_another_model_are_refused_at_once(demo_model, make_source, tmp_path):
    from selva_audio.errors import CheckpointError

    with pytest.raises(CheckpointError, match="width 1024, and demo_16k takes 64: they are of another model"):
        encoded(demo_model, [make_source("a", widths=(1024, 768))], tmp_path)


def test_one_side_holds_its_own_clips(demo_model, make_source, tmp_path):
    held = replace(make_source("b", seed=1), split="val")
    clips = encoded(demo_model, [make_source("a"), held], tmp_path)
    assert clips.of("train").names == ("a",) and clips.of("val").names == ("b",)
    assert torch.equal(clips.of("val").mean[0], clips.mean[1])
