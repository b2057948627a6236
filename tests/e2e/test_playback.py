"""What we write plays in a browser, which is stricter than a decoder."""

import numpy as np
import pytest
import torch
from browser import evaluate

from selva_audio.media.encode import write_video
from selva_audio.media.mux import mux
from selva_audio.records import Audio

PLAY = """new Promise((resolve) => {
  const v = document.querySelector("video");
  const tell = (ended) => resolve({ended, duration: v.duration, width: v.videoWidth,
    audioBytes: v.webkitAudioDecodedByteCount, videoBytes: v.webkitVideoDecodedByteCount,
    error: v.error && v.error.message});
  v.addEventListener("error", () => tell(false));
  v.addEventListener("ended", () => tell(true));
  v.play().catch(() => tell(false));
})"""


@pytest.mark.browser
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_browser_plays_picture_and_sound_to_the_end(chromium, tmp_path, suffix):
    pixels = np.zeros((25, 48, 64, 3), np.uint8)
    pixels[::5] = 255
    clip = write_video(pixels, 25, tmp_path / f"clip{suffix}")
    tone = 0.3 * torch.sin(torch.arange(16000) * 0.3)[None, None]
    mux(clip, Audio(tone, 16000), tmp_path / f"result{suffix}")
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><video src="result{suffix}"></video>')
    report = evaluate(chromium, page.as_uri(), PLAY, tmp_path / "profile")
    assert report["ended"], report
    assert report["duration"] == pytest.approx(1.0, abs=0.05)
    assert report["width"] == 64
    assert report["videoBytes"] > 0
    assert report["audioBytes"] > 0
