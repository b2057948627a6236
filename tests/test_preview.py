"""What a front end may show while a sound is made."""

import numpy as np
import torch

from selva_audio.features import VideoFeatures
from selva_audio.options import GenerateOptions
from selva_audio.synthesis import encode_prompts, sample_latents


def test_the_preview_of_the_last_step_is_the_mel_of_the_result(demo_model):
    config = demo_model.config.generator
    rows = torch.Generator().manual_seed(0)
    features = VideoFeatures(
        torch.randn(1, 8, config.clip_dim, generator=rows),
        torch.randn(1, 16, config.sync_dim, generator=rows),
    )
    reports = []
    with torch.no_grad():
        text = encode_prompts(demo_model, "rubber ball")
        (latent,) = sample_latents(
            demo_model, features, text, GenerateOptions(steps=3), duration=1.0, on_progress=reports.append
        )
        mel = demo_model.vae.decode(latent)[0].numpy()
        previews = [report.preview() for report in reports]
    assert [report.step for report in reports] == [1, 2, 3]
    assert np.array_equal(previews[-1], mel)
    distances = [float(np.abs(preview - mel).mean()) for preview in previews]
    assert distances[0] > distances[1] > distances[2] == 0
