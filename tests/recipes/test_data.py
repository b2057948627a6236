import json

import numpy as np
import pytest
import torch

from recipes.demo_model import features
from recipes.demo_model.data import CONFIG, mels, random_sounds, training_scene
from recipes.demo_model.fit import stream
from recipes.demo_model.labels import NEIGHBOUR, segment_batch, soft_bins
from selva_audio.scenes import HEARD, HELD_OUT


def test_training_code_cannot_reach_the_test_split():
    with pytest.raises(ValueError, match="test"):
        training_scene(0, split="test")


def test_the_generator_never_meets_held_out_materials(monkeypatch, tmp_path):
    seen = []

    class Recorder:
        def sync(self, frames, texts):
            return torch.zeros(len(texts), 192, 96)

        def images(self, frames):
            return torch.zeros(1, 64, 64)

    def record(seed, **arguments):
        scene = training_scene(seed, **arguments)
        seen.append(scene)
        return scene

    monkeypatch.setattr(features, "training_scene", record)
    latent = type("Latent", (), {"mean": torch.zeros(1, 250, 20)})

    def encode(mel):
        latent.mean = torch.zeros(len(mel), 250, 20)
        return latent

    path = tmp_path / "shard.safetensors"
    features._make_shard(path, Recorder(), encode, stream(0, "test"), 6)
    assert len(seen) == 6 and all(scene.split == "train" for scene in seen)
    assert {each.material.name for scene in seen for each in scene.objects} <= set(HEARD)
    pairs = features.read_shards([path])
    assert not any(name in text.split() for name in HELD_OUT for text in pairs.prompts)
    assert len(pairs.prompts) == len(pairs.latent)
    assert json.dumps(pairs.prompts)


def test_random_sounds_are_reproducible_and_in_range():
    first, second = (random_sounds(stream(3, "sounds"), 4, 8192) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (4, 8192) and first.abs().max() <= 1


def test_soft_bins_mark_the_impact_and_its_neighbours():
    bins = soft_bins(np.array([0.10]), 0.0, 16)
    assert bins[2] == 1 and bins[1] == bins[3] == np.float32(NEIGHBOUR) and bins.sum() == pytest.approx(1.7)
    outside = soft_bins(np.array([-0.01]), 0.0, 16)
    assert outside[0] == np.float32(NEIGHBOUR) and outside[1:].sum() == 0


def test_labels_put_the_named_object_where_it_is():
    scene = training_scene(2, materials=("wood", "metal"), num_objects=2)
    batch = segment_batch([scene], [5], [["wood", "rubber"]], stream(0, "labels"), 64)
    assert batch.frames.shape == (1, 16, 3, 64, 64) and batch.frames.abs().max() <= 1
    assert batch.presence.tolist() == [1, 0]
    assert batch.here[0].sum() > 0 and batch.here[1].sum() == 0
    assert batch.events[1].sum() == 0 and batch.place[1].abs().sum() == 0
    wood = scene.find("wood")
    times = 5 * 8 / 25 + np.arange(16) / 25
    expected = 2 * wood.positions(times).reshape(8, 4) - 1
    assert np.allclose(batch.place[0].numpy(), expected, atol=1e-5)


def test_mels_have_the_shape_of_the_variant():
    assert mels(torch.zeros(1, 5120)).shape == (1, CONFIG.mel.num_mels, 20)
