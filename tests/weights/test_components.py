from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from selva_audio.configs import VARIANTS, CLIPConfig, T5Config
from selva_audio.errors import CheckpointError, InputError
from selva_audio.models.bigvgan import BigVGAN
from selva_audio.models.clip import CLIP
from selva_audio.models.generator import Generator
from selva_audio.models.synchformer import Synchformer
from selva_audio.models.t5 import T5
from selva_audio.models.text_synch import TextSynch
from selva_audio.models.vae import VAE
from selva_audio.weights import check_state_dict, load_component

DEMO = VARIANTS["demo_16k"]
PLAIN = replace(DEMO, family="mmaudio")
TOY_MODULES = {
    "generator": (Generator, DEMO.generator),
    "video_encoder": (TextSynch, DEMO.video_encoder),
    "synchformer": (Synchformer, DEMO.video_encoder),
    "vae": (VAE, DEMO.vae),
    "vocoder": (BigVGAN, DEMO.vocoder),
    "clip": (CLIP, DEMO.clip),
    "t5": (T5, DEMO.t5),
}
ALL = list(TOY_MODULES)


def toy_state(component: str) -> dict[str, Tensor]:
    """A file's content at the demo model's sizes; random, since only names, shapes and identity matter."""
    build, config = TOY_MODULES[component]
    torch.manual_seed(0)
    module = build(config, None) if component in ("clip", "t5") else build(config)
    generator = torch.Generator().manual_seed(1)
    return {
        key: torch.randn(value.shape, generator=generator) + (key.endswith("_std"))
        for key, value in module.state_dict().items()
    }


def values(module: nn.Module) -> dict[str, Tensor]:
    return module.state_dict()


def assert_equal_states(first: nn.Module, second: nn.Module) -> None:
    one, two = values(first), values(second)
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("component", ALL)
def test_a_loaded_part_is_whole_in_eval_mode_and_the_given_state_is_untouched(component: str) -> None:
    state = toy_state(component)
    before = {key: value.clone() for key, value in state.items()}
    module = load_component(component, "demo_16k", state)
    assert isinstance(module, TOY_MODULES[component][0]) and not module.training
    for tensor in chain(module.parameters(), module.buffers()):
        assert not tensor.is_meta
        assert not tensor.is_floating_point() or tensor.dtype == torch.float32
    assert list(state) == list(before)
    assert all(torch.equal(state[key], before[key]) for key in before)


@pytest.mark.parametrize("component", ALL)
def test_half_precision_files_become_float32(component: str) -> None:
    state = {key: value.bfloat16() for key, value in toy_state(component).items()}
    module = load_component(component, DEMO, state)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}
    assert all(value.dtype == torch.bfloat16 for value in state.values())


@pytest.mark.parametrize("component", ALL)
def test_an_outer_generator_key_is_opened(component: str) -> None:
    state = toy_state(component)
    outer = {"generator": state, "step": 7}
    assert_equal_states(load_component(component, DEMO, outer), load_component(component, DEMO, state))


@pytest.mark.parametrize("component", ALL)
def test_unchanged_tensors_are_shared_not_copied(component: str) -> None:
    state = toy_state(component)
    module = load_component(component, DEMO, state)
    addresses = {value.data_ptr() for value in state.values()}
    shared = [value for value in module.state_dict().values() if value.data_ptr() in addresses]
    # The generator's convolutions over tokens are brought to another order in memory.
    ordered = sum(value.ndim == 3 for value in state.values()) if component == "generator" else 0
    assert len(shared) >= (2 if component == "vae" else len(state) - ordered)


@pytest.mark.parametrize("component", ALL)
def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(component: str) -> None:
    state = toy_state(component)
    first, *_, last = (key for key in state if not key.endswith("filter"))
    gone = {key: value for key, value in state.items() if key != last}
    with pytest.raises(CheckpointError, match=rf"{component} weights of demo_16k: 1 missing \({last}\)"):
        load_component(component, DEMO, gone)
    shape = tuple(state[first].shape)
    wrong = state | {first: torch.zeros(*shape, 2)}
    with pytest.raises(CheckpointError) as error:
        load_component(component, DEMO, wrong)
    assert f"{first} has shape {(*shape, 2)} where {shape} is needed" in str(error.value)
    with pytest.raises(CheckpointError, match="1 of another shape"):
        check_state_dict(component, DEMO, {key: tuple(value.shape) for key, value in wrong.items()})


def test_unexpected_names_are_listed_up_to_three() -> None:
    state = toy_state("vae") | {f"extra.{index}": torch.zeros(1) for index in range(5)}
    with pytest.raises(CheckpointError, match=r"5 unexpected \(extra\.0, extra\.1, extra\.2, \.\.\.\)"):
        load_component("vae", DEMO, state)


def test_a_file_of_another_variant_is_recognised() -> None:
    with torch.device("meta"):
        medium = Generator(VARIANTS["medium_44k"].generator).state_dict()
    shapes = {key: tuple(value.shape) for key, value in medium.items()}
    with pytest.raises(CheckpointError, match="looks like medium_44k: choose that variant"):
        check_state_dict("generator", "small_16k", shapes)
    with pytest.raises(CheckpointError, match="looks like mmaudio_medium_44k"):
        check_state_dict("generator", "mmaudio_small_16k", shapes)


@pytest.mark.parametrize(("given", "asked"), [("vae", "generator"), ("clip", "t5"), ("vocoder", "vae")])
def test_a_file_of_another_component_is_recognised(given: str, asked: str) -> None:
    with pytest.raises(CheckpointError, match=f"looks like a {given} file"):
        load_component(asked, DEMO, toy_state(given))


def test_generators_lose_their_computed_tables() -> None:
    state = toy_state("generator")
    tables = {"t_embed.freqs", "latent_rot", "clip_rot", "joint_blocks.0.rope.table"}
    module = load_component("generator", DEMO, state | {key: torch.zeros(3) for key in tables})
    assert_equal_states(module, load_component("generator", DEMO, state))


def test_the_visual_part_of_a_whole_synchformer_is_taken_for_mmaudio() -> None:
    state = toy_state("synchformer")
    whole = state | {"afeat_extractor.x": torch.zeros(2), "vproj.weight": torch.zeros(2, 2)}
    for component, variant in (("video_encoder", PLAIN), ("synchformer", PLAIN), ("synchformer", DEMO)):
        module = load_component(component, variant, whole)
        assert isinstance(module, Synchformer)
        assert torch.equal(module.vfeat_extractor.pos_embed, state["vfeat_extractor.pos_embed"])


def test_foreign_entries_of_a_text_synch_training_file_are_ignored() -> None:
    state = toy_state("video_encoder")
    module = load_component("video_encoder", DEMO, state | {"teacher.weight": torch.zeros(1)})
    assert_equal_states(module, load_component("video_encoder", DEMO, state))


def with_weight_norm(state: dict[str, Tensor], names: tuple[str, str]) -> dict[str, Tensor]:
    magnitude, direction = names
    normed = {}
    for key, value in state.items():
        if key.endswith(".weight"):
            axes = tuple(range(1, value.ndim))
            normed[key.removesuffix("weight") + magnitude] = value.norm(dim=axes, keepdim=True)
            normed[key.removesuffix("weight") + direction] = 3 * value
        else:
            normed[key] = value
    return normed


def test_a_vocoder_loads_from_all_three_spellings_of_its_weights() -> None:
    state = toy_state("vocoder")
    plain = load_component("vocoder", DEMO, state)
    original = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    for names in (("weight_g", "weight_v"), original):
        folded = load_component("vocoder", DEMO, with_weight_norm(state, names))
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(folded.state_dict()[key], value, rtol=1e-5, atol=1e-5)


def test_a_vocoder_file_without_filters_gets_the_constant_ones() -> None:
    state = {key: value for key, value in toy_state("vocoder").items() if not key.endswith("filter")}
    module = load_component("vocoder", DEMO, state)
    torch.testing.assert_close(module.activation_post.upsample.filter.sum(), torch.tensor(1.0))


def test_weight_norm_of_the_wrong_size_is_named() -> None:
    state = with_weight_norm(toy_state("vocoder"), ("weight_g", "weight_v"))
    with pytest.raises(CheckpointError, match="weight norm of conv_pre"):
        load_component("vocoder", DEMO, state | {"conv_pre.weight_g": torch.ones(5, 1, 1)})


def test_vae_filters_are_normalised_once_from_the_published_scale() -> None:
    state = toy_state("vae")
    module = load_component("vae", DEMO, state)
    norms = module.decoder.conv_in.weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-3, atol=0)
    assert torch.equal(module.data_mean, state["data_mean"])


def to_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The demo model's CLIP under the names of an open_clip file, written out by hand."""
    renamed = {}
    for key, value in state.items():
        tower, _, rest = key.partition(".")
        prefix = "visual." if tower == "vision_model" else ""
        if ".self_attn." in key and "out_proj" not in key:
            if ".q_proj." not in key:
                continue
            parts = [state[key.replace(".q_proj.", f".{each}_proj.")] for each in "qkv"]
            number, kind = rest.split(".")[2], rest.rpartition(".")[2]
            renamed[f"{prefix}transformer.resblocks.{number}.attn.in_proj_{kind}"] = torch.cat(parts)
            continue
        if rest.startswith("encoder.layers."):
            _, _, number, block = rest.split(".", 3)
            old, _, kind = block.rpartition(".")
            new = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
            new |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
            renamed[f"{prefix}transformer.resblocks.{number}.{new[old]}.{kind}"] = value
            continue
        names = {
            "logit_scale": "logit_scale",
            "text_projection.weight": "text_projection",
            "visual_projection.weight": "visual.proj",
            "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
            "text_model.embeddings.position_embedding.weight": "positional_embedding",
            "text_model.final_layer_norm.weight": "ln_final.weight",
            "text_model.final_layer_norm.bias": "ln_final.bias",
            "vision_model.embeddings.class_embedding": "visual.class_embedding",
            "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
            "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
            "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
            "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
            "vision_model.post_layernorm.weight": "visual.ln_post.weight",
            "vision_model.post_layernorm.bias": "visual.ln_post.bias",
        }
        renamed[names[key]] = value.T if "projection" in key else value
    return renamed


def test_clip_loads_equally_from_both_published_layouts() -> None:
    state = toy_state("clip")
    module = load_component("clip", DEMO, state)
    assert_equal_states(load_component("clip", DEMO, to_open_clip(state)), module)
    older = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    assert_equal_states(load_component("clip", DEMO, state | older), module)


def test_a_clip_without_image_weights_is_a_text_tower() -> None:
    state = toy_state("clip")
    whole = load_component("clip", DEMO, state)
    texts = {key: value for key, value in to_open_clip(state).items() if not key.startswith("visual.")}
    with torch.no_grad():
        expected = whole.encode_text(["dog"])
        for module in (
            load_component("clip", DEMO, texts),
            load_component("clip", DEMO, to_open_clip(state), image_tower=False),
            load_component("clip", DEMO, state, image_tower=False),
        ):
            assert module.vision_model is None
            assert torch.equal(module.encode_text(["dog"]), expected)


def test_a_clip_with_half_an_image_tower_is_refused() -> None:
    state = toy_state("clip")
    del state["vision_model.post_layernorm.weight"]
    with pytest.raises(CheckpointError, match="post_layernorm"):
        load_component("clip", DEMO, state)


def test_t5_takes_the_encoder_of_a_whole_model_under_either_name_of_its_tokens() -> None:
    state = toy_state("t5")
    tokens = state["encoder.embed_tokens.weight"]
    module = load_component("t5", DEMO, state)
    decoder = {"decoder.block.0.x": torch.zeros(1), "lm_head.weight": torch.zeros(1)}
    for whole in (
        state | decoder | {"shared.weight": tokens},
        {key: value for key, value in state.items() if "embed_tokens" not in key} | {"shared.weight": tokens},
    ):
        assert_equal_states(load_component("t5", DEMO, whole), module)


def test_parts_that_read_text_get_the_tokenizer_of_their_configuration_or_the_given_one(
    unigram_tokenizer: Path,
) -> None:
    state = toy_state("t5")
    module = load_component("t5", DEMO, state)
    assert module.encode_text(["dog"])[0].shape == (1, 4, DEMO.t5.d_model)
    given = load_component(
        "t5", DEMO, state, tokenizer=lambda p: (torch.ones(1, 2).long(), torch.ones(1, 2) > 0)
    )
    assert given.encode_text(["dog"])[0].shape == (1, 2, DEMO.t5.d_model)
    config = replace(
        DEMO, t5=T5Config(8, 1, 2, 4, 16), clip=replace(DEMO.clip, vocab_size=49408, tokenizer="clip_bpe")
    )
    table = {"encoder.embed_tokens.weight": torch.zeros(32128, 8)}
    small = T5(config.t5, lambda prompts: prompts).state_dict() | table
    file_based = load_component("t5", config, small, tokenizer=unigram_tokenizer)
    assert file_based.encode_text(["dog barking"])[0].shape == (1, 3, 8)
    clip_state = toy_state("clip") | {"text_model.embeddings.token_embedding.weight": torch.randn(49408, 64)}
    clip = load_component("clip", config, clip_state)
    assert clip.tokenizer(["dog"])[0, 0] == 49406


def test_names_and_contents_that_cannot_be_used_are_explained() -> None:
    with pytest.raises(InputError, match="Did you mean 'vocoder'"):
        load_component("vocodr", DEMO, {})
    with pytest.raises(InputError, match="Unknown variant"):
        load_component("vae", "tiny", {})
    with pytest.raises(InputError, match="takes no tokenizer"):
        load_component("vae", DEMO, toy_state("vae"), tokenizer=str)
    with pytest.raises(InputError, match="CLIP's tokenizer"):
        load_component("clip", DEMO, toy_state("clip"), tokenizer="file.json")
    with pytest.raises(CheckpointError, match="a list; a state dict"):
        load_component("vae", DEMO, [])
    with pytest.raises(CheckpointError, match="int under 'step'"):
        load_component("vae", DEMO, {"step": 3})
    with pytest.raises(CheckpointError, match="missing"):
        load_component("clip", replace(DEMO, clip=CLIPConfig()), {})
