"""Every variant has exactly the recorded names and shapes of the published checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from selva_audio.configs import VARIANTS, ModelConfig
from selva_audio.errors import CheckpointError
from selva_audio.models.bigvgan import BigVGAN
from selva_audio.models.clip import CLIP
from selva_audio.models.generator import Generator
from selva_audio.models.synchformer import Synchformer
from selva_audio.models.t5 import T5
from selva_audio.models.text_synch import TextSynch
from selva_audio.models.vae import VAE
from selva_audio.weights import check_state_dict, keys

MANIFESTS = Path(__file__).parent / "manifests"
SIZES = ("small_16k", "small_44k", "medium_44k", "large_44k")
GENERATORS = [
    *((name, f"generator_{name}") for name in SIZES),
    *((f"mmaudio_{name}", f"generator_{name}") for name in (*SIZES, "large_44k_v2")),
]


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((MANIFESTS / f"{name}.json").read_text()).items()}


def shapes_of(build: Callable[[ModelConfig], nn.Module], variant: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        module = build(VARIANTS[variant])
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize(("variant", "name"), GENERATORS)
def test_generator_has_the_recorded_keys_and_shapes(variant: str, name: str) -> None:
    assert shapes_of(lambda config: Generator(config.generator), variant) == manifest(name)


@pytest.mark.parametrize(
    ("variant", "millions"),
    [
        ("small_16k", 157.28),
        ("small_44k", 157.41),
        ("medium_44k", 621.81),
        ("large_44k", 1030.00),
        ("mmaudio_large_44k_v2", 1030.58),
    ],
)
def test_generator_has_the_documented_number_of_values(variant: str, millions: float) -> None:
    shapes = shapes_of(lambda config: Generator(config.generator), variant)
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize(("variant", "name"), [("small_16k", "vae_16k"), ("large_44k", "vae_44k")])
def test_vae_has_the_recorded_keys_and_shapes(variant: str, name: str) -> None:
    assert shapes_of(lambda config: VAE(config.vae), variant) == manifest(name)


def test_video_encoders_have_the_recorded_keys_and_shapes() -> None:
    assert shapes_of(lambda config: TextSynch(config.video_encoder), "small_16k") == manifest("video_enc")
    visual = manifest("synchformer_visual")
    assert shapes_of(lambda config: Synchformer(config.video_encoder), "mmaudio_small_16k") == visual


def test_clip_has_the_keys_and_shapes_of_the_transformers_file() -> None:
    shapes = shapes_of(lambda config: CLIP(config.clip, lambda prompts: prompts), "small_16k")
    assert shapes == manifest("clip_vit_h14_378_transformers")


def test_t5_has_the_recorded_keys_and_shapes_but_one_name_for_the_token_table() -> None:
    expected = manifest("t5_flan_base_encoder")
    del expected["shared.weight"]
    assert shapes_of(lambda config: T5(config.t5, lambda prompts: prompts), "small_16k") == expected


@pytest.mark.parametrize(("variant", "name"), [("small_16k", "bigvgan_16k"), ("small_44k", "bigvgan_v2_44k")])
def test_vocoder_has_the_recorded_keys_and_shapes_with_weight_norm_folded(variant: str, name: str) -> None:
    expected = {
        key.replace(".weight_v", ".weight"): shape
        for key, shape in manifest(name).items()
        if not key.endswith(".weight_g")
    }
    assert shapes_of(lambda config: BigVGAN(config.vocoder), variant) == expected


FILES = [
    *(("generator", variant, name) for variant, name in GENERATORS),
    *(("video_encoder", name, "video_enc") for name in SIZES),
    ("video_encoder", "mmaudio_small_16k", "synchformer_full"),
    ("video_encoder", "mmaudio_large_44k_v2", "synchformer_visual"),
    ("synchformer", "small_16k", "synchformer_full"),
    ("synchformer", "small_16k", "video_enc"),
    ("vae", "small_16k", "vae_16k"),
    ("vae", "mmaudio_large_44k", "vae_44k"),
    ("vocoder", "mmaudio_small_16k", "bigvgan_16k"),
    ("vocoder", "medium_44k", "bigvgan_v2_44k"),
    ("clip", "small_16k", "clip_vit_h14_378_open_clip"),
    ("clip", "small_44k", "clip_vit_h14_378_transformers"),
    ("t5", "small_16k", "t5_flan_base_encoder"),
]


@pytest.mark.parametrize(("component", "variant", "name"), FILES)
def test_the_published_file_passes_the_header_check(component: str, variant: str, name: str) -> None:
    check_state_dict(component, variant, manifest(name))


@pytest.mark.parametrize(("component", "variant", "name"), FILES)
def test_a_quarter_of_the_published_file_fails_the_header_check(
    component: str, variant: str, name: str
) -> None:
    shapes = manifest(name)
    quarter = dict(list(shapes.items())[: len(shapes) // 4])
    with pytest.raises(CheckpointError, match=r" missing \("):
        check_state_dict(component, variant, quarter)


def test_clip_key_rules_give_the_whole_recorded_map() -> None:
    recorded = json.loads((MANIFESTS / "clip_key_map.json").read_text())
    shapes = manifest("clip_vit_h14_378_open_clip")
    for index, (key, targets) in enumerate(recorded.items()):
        # An image key beside it, so that the text projection is not dropped as unneeded.
        beside = "visual.ln_pre.bias" if key != "visual.ln_pre.bias" else "visual.ln_pre.weight"
        small = tuple(6 if len(shapes[key]) == 1 else 6 + axis for axis in range(len(shapes[key])))
        source = torch.arange(index, index + torch.Size(small).numel()).reshape(small)
        mapped = keys.to_module_layout("clip", {key: source, beside: torch.zeros(6)})
        expected = {}
        for name, operation in targets:
            match operation.split():
                case ["copy"]:
                    expected[name] = source
                case ["transpose"]:
                    expected[name] = source.T
                case ["rows", part, "of", "3"]:
                    expected[name] = source[2 * int(part) : 2 * int(part) + 2]
        others = set(keys.to_module_layout("clip", {beside: torch.zeros(6)}))
        assert set(mapped) - others == set(expected)
        assert all(torch.equal(mapped[name], value) for name, value in expected.items())
