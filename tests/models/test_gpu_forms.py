"""What a GPU runs, looked at without one: on torch's meta device, which has shapes and no numbers.

A step that is recorded may touch nothing outside the device, and may not wait for a value.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from selva_audio.configs import get_config
from selva_audio.flow import guided_velocity
from selva_audio.models.clip import _pooled
from selva_audio.models.generator import share_rows
from selva_audio.models.synchformer import Motionformer
from selva_audio.models.text_synch import TextSynch
from selva_audio.weights.components import empty_component

SECONDS = 8.0
SEGMENTS = 8


class Places(TorchDispatchMode):
    """Notes operations with a tensor that is not on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.operations += 1
        devices = {each.device.type for each in tree_leaves((args, kwargs, made)) if isinstance(each, Tensor)}
        if devices - {"meta"}:
            self.elsewhere.append(str(func))
        return made


@pytest.fixture
def places():
    with torch.no_grad():
        yield Places()


def values(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def part(name: str, variant: str, dtype: torch.dtype = torch.bfloat16):
    return empty_component(name, get_config(variant), tokenizer=None, image_tower=True).to("meta", dtype)


@pytest.mark.parametrize("variant", ["demo_16k", "small_16k", "large_44k", "mmaudio_large_44k_v2"])
@pytest.mark.parametrize("cfg_strength", [0.0, 4.5])
def test_the_step_of_the_generator_stays_on_the_device(places, variant, cfg_strength):
    config, generator = get_config(variant), part("generator", variant)
    lengths, sizes = config.lengths(SECONDS), config.generator
    clip, sync, text = (
        values(1, count, width)
        for count, width in (
            (lengths.clip, sizes.clip_dim), (lengths.sync, sizes.sync_dim), (77, sizes.text_dim),
        )
    )  # fmt: skip
    conditional, empty = (generator.conditions(clip, sync, text, lengths.latent) for _ in range(2))
    assert share_rows(conditional).shared is not None
    velocity = guided_velocity(generator, conditional, empty, cfg_strength)
    x = values(1, lengths.latent, sizes.latent_dim, dtype=torch.float32)
    t = values(dtype=torch.float32)
    with places:
        assert velocity(t, x).shape == x.shape
    assert places.operations > 100 and places.elsewhere == []


@pytest.mark.parametrize("variant", ["demo_16k", "small_16k"])
def test_the_step_of_the_text_conditioned_encoder_stays_on_the_device(places, variant):
    encoder = part("video_encoder", variant)
    config = encoder.config
    text, mask = values(SEGMENTS, 9, config.text_dim), values(SEGMENTS, 9, dtype=torch.bool)
    memory = encoder._text_memory(text, mask)
    segments = values(SEGMENTS, 16, 3, config.image_size, config.image_size, dtype=torch.float32)
    with places:
        encoded = TextSynch._encode_chunk(encoder, segments, *memory)
    assert encoded.shape[0] == SEGMENTS
    assert places.operations > 100 and places.elsewhere == []


def test_the_step_of_the_plain_encoder_stays_on_the_device(places):
    encoder = part("video_encoder", "mmaudio_small_16k").vfeat_extractor
    with places:
        assert Motionformer.encode(encoder, values(SEGMENTS, 16, 3, 224, 224)).shape[0] == SEGMENTS
    assert places.operations > 100 and places.elsewhere == []


def test_the_step_of_clip_stays_on_the_device(places):
    tower = part("clip", "mmaudio_small_16k").vision_model
    with places:
        assert _pooled(tower, values(4, 3, 378, 378)).shape == (4, 1280)
    assert places.operations > 100 and places.elsewhere == []


@pytest.mark.parametrize("variant", ["demo_16k", "small_16k", "large_44k"])
def test_vae_and_vocoder_stay_on_the_device(places, variant):
    config = get_config(variant)
    vae, vocoder = part("vae", variant, torch.float32), part("vocoder", variant)
    latents = config.lengths(SECONDS).latent
    with places:
        mel = vae.decode(values(1, latents, config.generator.latent_dim, dtype=torch.float32))
        wave = vocoder(mel)
    assert mel.shape == (1, config.mel.num_mels, 2 * latents)
    assert wave.shape == (1, 1, 2 * latents * config.mel.hop_length)
    assert places.operations > 100 and places.elsewhere == []
