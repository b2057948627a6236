import pytest
import torch

from selva_audio.configs import MEL_16K, MEL_44K
from selva_audio.errors import InputError
from selva_audio.flow.style import (
    attacks,
    latent_style_loss,
    mel_frames,
    mel_level,
    mel_style_loss,
    style_of,
    timing_loss,
)


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def test_statistics_are_those_of_all_frames_together(rows) -> None:
    pieces = style_of(rows.split(7), centred=True)
    torch.testing.assert_close(pieces.mean, rows.double().mean(dim=0))
    torch.testing.assert_close(pieces.gram, torch.cov(rows.double().T, correction=0))
    raw = style_of([rows], centred=False)
    torch.testing.assert_close(raw.gram, rows.double().T @ rows.double() / 40)
    with pytest.raises(InputError, match="no sound"):
        style_of([], centred=True)


def test_the_order_of_frames_has_no_style(rows) -> None:
    style, shuffled = (style_of([each], centred=True) for each in (rows, rows.flip(0)))
    assert float(mel_style_loss(style, shuffled, 1.0)) < 1e-12
    assert float(latent_style_loss(style, shuffled, 1.0)) < 1e-12


def test_each_term_sees_what_the_other_does_not(rows) -> None:
    style = style_of([rows], centred=True)
    louder, wider = style_of([rows + 1], centred=True), style_of([2 * rows], centred=True)
    assert float(mel_style_loss(louder, style, 0.0)) == pytest.approx(1.0)
    assert float(mel_style_loss(louder, style, 5.0)) == pytest.approx(1.0)
    assert float(mel_style_loss(wider, style, 1.0)) > 2 * float(mel_style_loss(wider, style, 0.0))
    assert float(latent_style_loss(louder, style, 0.0)) == pytest.approx(1.0)
    assert float(latent_style_loss(wider, style, 1.0)) > float(latent_style_loss(wider, style, 0.0))


@pytest.mark.parametrize("config", [MEL_16K, MEL_44K], ids=["16k", "44k"])
def test_silent_frames_have_no_style(config) -> None:
    unit = 20 if config.log_base == "10" else 8.686  # dB of one unit
    mel = torch.zeros(1, config.num_mels, 4)
    mel[..., 2], mel[..., 3] = -49 / unit, -51 / unit
    ones = torch.ones(1, config.num_mels, 1)
    frames = mel_frames(mel, 0.5 * ones, 2 * ones, config)
    assert frames.shape == (3, config.num_mels)
    torch.testing.assert_close(frames[0], torch.full((config.num_mels,), -0.25))


@pytest.mark.parametrize("config", [MEL_16K, MEL_44K], ids=["16k", "44k"])
def test_a_louder_sound_is_louder_by_the_same_in_its_mel(config) -> None:
    mel = torch.randn(1, config.num_mels, 20, generator=torch.Generator().manual_seed(0))
    assert mel_level([mel + 0.7], config) - mel_level([mel], config) == pytest.approx(0.7, abs=1e-5)
    assert mel_level([mel, mel], config) == pytest.approx(mel_level([mel], config))


def impacts(*frames: int, level: float = 0.0, slope: float = 0.1, bands: int = 8) -> torch.Tensor:
    """(1, 8, 100): silence, and sounds that begin at some frames and fade at a rate of their own."""
    mel = torch.full((1, bands, 100), -10.0)
    for frame in frames:
        fading = level - slope * torch.arange(100.0 - frame)
        mel[0, :, frame:] = torch.maximum(mel[0, :, frame:], fading.expand(bands, -1))
    return mel


def test_attacks_are_where_sounds_begin() -> None:
    rises = attacks(impacts(20, 60, slope=0.5))
    assert sorted(rises.topk(2).indices.tolist()) == [19, 59]
    assert float(rises.sum()) > 0 and float(rises[30:50].abs().max()) == 0


def test_timing_is_that_of_the_attacks_alone() -> None:
    first = impacts(20, 60, slope=0.5)
    assert float(timing_loss(first, first)) == pytest.approx(0, abs=1e-6)
    louder, longer = impacts(20, 60, level=3.0, slope=0.5), impacts(20, 60, slope=0.3)
    near, far, lost = (impacts(*frames, slope=0.5) for frames in ((21, 60), (35, 75), (20,)))
    same = [float(timing_loss(mel, first)) for mel in (louder, longer)]
    other = [float(timing_loss(mel, first)) for mel in (near, lost, far)]
    assert max(same) < 0.05 < other[0] < other[1] < other[2] <= 1
    tilted = first + torch.linspace(-2, 2, 8)[None, :, None]
    assert float(timing_loss(tilted, first)) == pytest.approx(0, abs=1e-6)


def test_timing_of_silence_is_a_number() -> None:
    silence = torch.full((1, 8, 30), -10.0, requires_grad=True)
    loss = timing_loss(silence, impacts(20)[..., :30])
    loss.backward()
    assert float(loss.detach()) == 1 and bool(silence.grad.isfinite().all())
