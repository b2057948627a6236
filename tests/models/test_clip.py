import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from selva_audio.configs import VARIANTS, CLIPConfig
from selva_audio.errors import InputError
from selva_audio.models.clip import CLIP
from selva_audio.weights import load_component

TOY = VARIANTS["demo_16k"].clip
MANIFEST = Path(__file__).parents[1] / "contracts" / "manifests" / "clip_vit_h14_378_open_clip.json"


def byte_rows(prompts: list[str]) -> Tensor:
    rows = torch.zeros(len(prompts), TOY.context_length, dtype=torch.int64)
    for row, prompt in zip(rows, prompts, strict=True):
        ids = [1, *(byte + 3 for byte in prompt.encode()), 2]
        row[: len(ids)] = torch.tensor(ids)
    return rows


@pytest.fixture(scope="module")
def toy() -> CLIP:
    torch.manual_seed(0)
    module = CLIP(TOY, byte_rows)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval().requires_grad_(False)


def recorded_config(meta: dict) -> CLIPConfig:
    config = meta["config"]
    vision, text = config["vision_cfg"], config["text_cfg"]
    return CLIPConfig(
        embed_dim=config["embed_dim"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        vision_width=vision["width"],
        vision_layers=vision["layers"],
        vision_heads=vision["width"] // vision["head_width"],
        text_width=text["width"],
        text_layers=text["layers"],
        text_heads=text["heads"],
    )


def open_clip_shapes(config: CLIPConfig) -> dict[str, list[int]]:
    """Names and shapes of an open_clip file."""
    embed, text, vision = config.embed_dim, config.text_width, config.vision_width
    patches = (config.image_size // config.patch_size) ** 2
    shapes = {
        "logit_scale": [],
        "positional_embedding": [config.context_length, text],
        "text_projection": [text, embed],
        "token_embedding.weight": [config.vocab_size, text],
        "visual.class_embedding": [vision],
        "visual.conv1.weight": [vision, 3, config.patch_size, config.patch_size],
        "visual.positional_embedding": [1 + patches, vision],
        "visual.proj": [vision, embed],
    }
    norms = {"ln_final": text, "visual.ln_pre": vision, "visual.ln_post": vision}
    towers = [("transformer", text, config.text_layers), ("visual.transformer", vision, config.vision_layers)]
    for tower, width, layers in towers:
        for block in (f"{tower}.resblocks.{index}" for index in range(layers)):
            norms |= {f"{block}.ln_1": width, f"{block}.ln_2": width}
            linears = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width)}
            linears["mlp.c_proj"] = (width, 4 * width)
            for name, (rows, columns) in linears.items():
                shapes |= {f"{block}.{name}.weight": [rows, columns], f"{block}.{name}.bias": [rows]}
            shapes |= {f"{block}.attn.in_proj_weight": [3 * width, width]}
            shapes |= {f"{block}.attn.in_proj_bias": [3 * width]}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": [width], f"{name}.bias": [width]}
    return shapes


def recorded_errors(record, fill, rule_state) -> dict[str, float]:
    config = recorded_config(record.meta)
    state = rule_state(open_clip_shapes(config), record.meta["weights_seed"])
    module = load_component("clip", replace(VARIANTS["mmaudio_small_16k"], clip=config), state)
    del state
    frames = len(record.arrays["image"])
    image = fill.make_input("clip.image", (frames, 3, 384, 384), record.meta["input_seed"], kind="unit")
    with torch.no_grad():
        text = module.encode_text(record.meta["prompts"])
        embeddings = module.encode_image(torch.from_numpy(image)[None])[0]
    return {"text": record.error("text", text), "image": record.error("image", embeddings)}


def test_the_recorded_open_clip_names_follow_from_the_sizes() -> None:
    assert open_clip_shapes(CLIPConfig()) == json.loads(MANIFEST.read_text())


def test_towers_equal_the_recorded_open_clip(golden, fill, rule_state) -> None:
    errors = recorded_errors(golden("clip_small_0"), fill, rule_state)
    assert max(errors.values()) < 2e-5, errors


@pytest.mark.slow
def test_towers_of_the_published_size_equal_the_recorded_open_clip(golden, fill, rule_state) -> None:
    errors = recorded_errors(golden("clip_real_0"), fill, rule_state)
    assert max(errors.values()) < 2e-5, errors


def test_text_states_have_unit_length_and_depend_only_on_what_came_before(toy: CLIP) -> None:
    first, second = toy.encode_text(["dog barking", "dog running"])
    assert first.shape == (TOY.context_length, TOY.text_width) and first.dtype == torch.float32
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(TOY.context_length))
    assert torch.equal(first[:5], second[:5])
    assert (first[20:] - second[20:]).abs().amax(-1).min() > 1e-4  # padding after them differs


def test_a_prompt_has_the_same_states_alone_and_in_a_batch(toy: CLIP) -> None:
    together = toy.encode_text(["rain", "a much longer prompt"])
    torch.testing.assert_close(toy.encode_text(["rain"])[0], together[0], rtol=1e-5, atol=1e-6)


def test_frames_beyond_the_patches_are_ignored_and_batches_of_frames_do_not_mix() -> None:
    torch.manual_seed(1)
    config = CLIPConfig(
        embed_dim=8, frame_size=20, image_size=16, patch_size=8, vision_width=16, vision_layers=1,
        vision_heads=2, text_width=16, text_layers=1, text_heads=2, vocab_size=259,
    )  # fmt: skip
    module = CLIP(config, byte_rows).eval().requires_grad_(False)
    frames = torch.rand(2, 11, 3, 20, 20)
    embeddings = module.encode_image(frames)
    changed = frames.clone()
    changed[..., 16:, :] = 0
    changed[..., 16:] = 1
    assert embeddings.shape == (2, 11, 8)
    assert torch.equal(module.encode_image(changed), embeddings)
    alone = module.encode_image(frames[1:, 10:])
    torch.testing.assert_close(alone[0, 0], embeddings[1, 10], rtol=1e-5, atol=1e-6)


def test_a_text_only_clip_equals_the_whole_and_says_why_it_cannot_encode_frames(toy: CLIP) -> None:
    module = CLIP(TOY, byte_rows, image_tower=False).eval()
    state = {key: value for key, value in toy.state_dict().items() if key.startswith("text_model.")}
    module.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(module.encode_text(["dog"]), toy.encode_text(["dog"]))
    with pytest.raises(InputError, match="text tower alone"):
        module.encode_image(torch.zeros(1, 1, 3, 64, 64))


@pytest.mark.parametrize("shape", [(1, 0, 3, 64, 64), (1, 3, 64, 64), (1, 2, 3, 32, 64)])
def test_frames_of_another_shape_are_refused(toy: CLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        toy.encode_image(torch.zeros(shape))


def test_bfloat16_weights_return_float32(toy: CLIP) -> None:
    module = CLIP(TOY, byte_rows)
    module.load_state_dict(toy.state_dict())
    module = module.bfloat16().eval()
    with torch.no_grad():
        text, image = module.encode_text(["dog"]), module.encode_image(torch.rand(1, 2, 3, 64, 64))
    for each in (text, image):
        assert each.dtype == torch.float32
        torch.testing.assert_close(each.norm(dim=-1), torch.ones(each.shape[:-1]))
