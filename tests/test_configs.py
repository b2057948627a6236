import dataclasses
import json
from pathlib import Path

import pytest

from selva_audio.configs import VARIANTS, ModelConfig, get_config
from selva_audio.errors import InputError

RECORDED = json.loads((Path(__file__).parent / "golden" / "data" / "sequence_lengths.json").read_text())
VARIANT_OF_MODE = {"16k": "small_16k", "44k": "large_44k"}


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['mode']}-{row['duration']}")
def test_lengths_equal_the_recorded_ones(row: dict) -> None:
    lengths = get_config(VARIANT_OF_MODE[row["mode"]]).lengths(row["duration"])
    assert (lengths.latent, lengths.clip, lengths.sync, lengths.samples) == (
        row["latent_seq_len"],
        row["clip_seq_len"],
        row["sync_seq_len"],
        row["num_audio_frames"],
    )
    assert lengths.sync == 8 * lengths.segments


def test_under_one_segment_is_refused_with_the_minimum() -> None:
    with pytest.raises(InputError, match=r"0\.5 s is under the minimum of 0\.64 s"):
        get_config("small_16k").lengths(0.5)


def test_all_promised_variants_are_there() -> None:
    assert set(VARIANTS) == {
        "demo_16k", "small_16k", "small_44k", "medium_44k", "large_44k",
        "mmaudio_small_16k", "mmaudio_small_44k", "mmaudio_medium_44k", "mmaudio_large_44k",
        "mmaudio_large_44k_v2",
    }  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_consistent(name: str) -> None:
    config = VARIANTS[name]
    assert config.name == name
    assert config.mode == name.removesuffix("_v2")[-3:]
    assert config.generator.latent_dim == config.vae.latent_dim
    assert config.generator.hidden_dim % config.generator.num_heads == 0
    assert config.vae.num_mels == config.vocoder.num_mels == config.mel.num_mels
    hop = 1
    for rate in config.vocoder.upsample_rates:
        hop *= rate
    assert hop == config.mel.hop_length
    assert config.generator.clip_dim == config.clip.embed_dim
    assert config.generator.sync_dim == config.video_encoder.width
    assert ("t5" in config.files) == (config.family == "selva")
    assert config.generator.latent_rate in (None, config.latent_rate)


def test_a_config_is_frozen_and_replaceable() -> None:
    config = VARIANTS["small_16k"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.name = "other"  # type: ignore[misc]
    narrow = dataclasses.replace(config, vae=dataclasses.replace(config.vae, hidden_dim=8))
    assert narrow.vae.hidden_dim == 8
    assert VARIANTS["small_16k"].vae.hidden_dim == 384


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"Unknown variant 'smal_16k'\. Did you mean 'small_16k'\?.*large_44k"
    ):
        get_config("smal_16k")


def test_a_config_of_ones_own_is_taken_as_it_is() -> None:
    config: ModelConfig = dataclasses.replace(VARIANTS["demo_16k"], name="mine")
    assert get_config(config) is config
