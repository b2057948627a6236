import pytest
import torch

from selva_audio.configs import MEL_16K, MEL_44K
from selva_audio.errors import InputError
from selva_audio.flow.style import (
    latent_style_loss,
    mel_frames,
    mel_level,
    mel_style_loss,
    style_of,
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
