"""From an empty models folder over a hub to sound, for every published variant."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from published import published_files, toy_config

import selva_audio as selva
from selva_audio.configs import VARIANTS
from selva_audio.media.encode import write_video
from selva_audio.tasks.models import download_models, verify_models
from selva_audio.weights.manifest import FILES

PUBLISHED = [name for name in VARIANTS if name != "demo_16k"]


@pytest.fixture
def clip(tmp_path):
    shade = np.linspace(0, 255, 36, dtype=np.uint8)
    pixels = np.broadcast_to(shade[:, None, None, None], (36, 48, 64, 3)).copy()
    return write_video(pixels, 24, tmp_path / "clip.mp4")


@pytest.fixture
def publish(hub, monkeypatch):
    """Put a toy variant on the hub; its files cannot have the published hashes (shown in tests/weights)."""
    table = {name: replace(entry, md5=None, urls=()) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)

    def put(variant):
        config = toy_config(variant)
        for (repo, path), content in published_files(config).items():
            hub.put(repo, path, content)
        return config

    return put


@pytest.mark.parametrize("variant", PUBLISHED)
def test_a_variant_goes_from_the_hub_to_sound_of_the_right_length(variant, publish, clip, tmp_path):
    config = publish(variant)
    models = tmp_path / "models"
    assert all(file.downloaded for file in download_models(variant, models_dir=models))
    assert {file.status for file in verify_models(variant, models_dir=models)} == {"recorded"}

    model = selva.load_model(config, device="cpu", precision="fp32", models_dir=models, offline=True)
    features = selva.extract_features(model, clip, selva.FeatureOptions(prompt="dog barking"))
    audio = selva.generate(model, features, selva.GenerateOptions(steps=2, seed=3))
    assert features.duration == pytest.approx(1.5)
    assert audio.waveform.shape == (1, 1, round(1.5 * config.sample_rate))
    assert audio.waveform.abs().max() > 0

    other = selva.extract_features(model, clip, selva.FeatureOptions(prompt="rain on the bell"))
    follows_text = config.family == "selva"
    assert torch.equal(features.sync, other.sync) is not follows_text
    assert features.clip.shape[1] == (0 if follows_text else 12)


def test_text_alone_and_a_picture_make_different_sound_with_mmaudio(publish, tmp_path):
    config = publish("mmaudio_large_44k_v2")
    model = selva.load_model(config, device="cpu", precision="fp32", models_dir=tmp_path / "models")
    options = selva.GenerateOptions(prompt="rain", steps=2, duration=2.0)
    alone = selva.generate(model, None, options)
    assert alone.waveform.shape == (1, 1, 88200)

    from matplotlib.image import imsave

    imsave(tmp_path / "still.png", np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
    features = selva.extract_features(model, tmp_path / "still.png", selva.FeatureOptions(duration=2.0))
    assert features.sync.shape[1] == 0
    assert features.clip.shape[1] == 16
    pictured = selva.generate(model, features, options)
    assert pictured.waveform.shape == alone.waveform.shape
    assert not torch.allclose(pictured.waveform, alone.waveform, atol=1e-3)
