from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch.nn import functional

from selva_audio.configs import VOCODER_16K, VOCODER_44K, VocoderConfig, get_config
from selva_audio.errors import CheckpointError, InputError
from selva_audio.models import bigvgan, convolution
from selva_audio.models.antialias import (
    ACTIVATION_REACH,
    AntialiasedActivation,
    add_missing_filters,
    antialias_filter,
    downsample2,
    upsample2,
)
from selva_audio.models.bigvgan import BigVGAN, OverlapAdd, fold_weight_norm, vocode_in_chunks
from selva_audio.progress import Cancelled

DEMO = VocoderConfig(
    80,
    upsample_rates=(4, 4, 4, 2, 2),
    upsample_kernels=(8, 8, 8, 4, 4),
    initial_channels=64,
    resblock_kernels=(3, 7),
    resblock_dilations=(1, 3),
)
TINY = replace(
    DEMO,
    upsample_rates=(8, 2),
    upsample_kernels=(16, 4),
    initial_channels=16,
    resblock_kernels=(3,),
    resblock_dilations=(1,),
)
SIZES = {"16k": VOCODER_16K, "44k": VOCODER_44K}


def weight_norm_shapes(config):
    """Keys and shapes of a file with weight norm, from the module's own."""
    with torch.device("meta"):
        state = BigVGAN(config).state_dict()
    shapes = {}
    for key, value in state.items():
        if key.endswith(".weight"):
            shapes[key + "_g"] = [value.shape[0], 1, 1]
            shapes[key + "_v"] = list(value.shape)
        elif not key.endswith(".filter"):
            shapes[key] = list(value.shape)
    return shapes


def build(config, state):
    with torch.device("meta"):
        module = BigVGAN(config)
    module.load_state_dict(add_missing_filters(fold_weight_norm(state)), assign=True)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def toy(rule_state):
    def make(config=DEMO):
        return build(config, rule_state(weight_norm_shapes(config), 3))

    return make


@pytest.fixture(scope="module")
def full_size(rule_state):
    @lru_cache(maxsize=1)
    def make(size, seed):
        return build(SIZES[size], rule_state(weight_norm_shapes(SIZES[size]), seed))

    yield make
    make.cache_clear()


@pytest.mark.parametrize("name", ["bigvgan_16k_0", "bigvgan_16k_1", "bigvgan_44k_0", "bigvgan_44k_1"])
@pytest.mark.parametrize("large", [0, 2**60], ids=["fast", "plain"])
def test_vocoder_matches_golden(golden, full_size, monkeypatch, name, large):
    g = golden(name)
    meta = g.meta
    monkeypatch.setattr(bigvgan, "_LARGE", large)
    monkeypatch.setattr(convolution, "_LONG", 4000)
    monkeypatch.setattr(convolution, "_PIECE", 300)
    vocoder = full_size(name.split("_")[1], meta["weights_seed"])
    watched = {"conv_pre": vocoder.conv_pre, "conv_post": vocoder.conv_post}
    watched |= {f"ups{i}": up for i, up in enumerate(vocoder.ups)}
    watched |= {f"resblock{i}": vocoder.resblocks[i] for i in (0, 1, 2, 17)}
    watched["activation_post"] = vocoder.activation_post
    kept = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, key=key: kept.__setitem__(f"mid_{key}", out))
        for key, module in watched.items()
    ]
    mel = g.input("mel", (meta["B"], meta["mels"], meta["frames"])) + meta["mel_offset"]
    errors = {"wave": g.error("wave", vocoder(mel))}
    errors |= {key: g.error(key, value) for key, value in kept.items()}
    for hook in hooks:
        hook.remove()
    assert max(errors.values()) < 5e-5, errors


@pytest.fixture(scope="module")
def units(golden, fill):
    g = golden("units")
    return g, torch.from_numpy(fill.make_input("unit.wave", (2, 6, 37), g.meta["seed"]))


def test_filter_matches_golden(units):
    assert units[0].error("kaiser_filter", antialias_filter().flatten()) < 1e-6
    assert torch.equal(antialias_filter(), antialias_filter().flip(-1))


def test_activation_matches_golden(units, rule_state):
    g, x = units
    activation = AntialiasedActivation(6, "snakebeta")
    parameters = rule_state({"act.alpha": [6], "act.beta": [6]}, g.meta["seed"])
    activation.load_state_dict(add_missing_filters(parameters))
    taps = antialias_filter()
    assert g.error("up2", upsample2(x, taps)) < 5e-6
    assert g.error("down2", downsample2(x, taps)) < 5e-6
    assert g.error("snakebeta", activation.act(x)) < 5e-6
    assert g.error("aa_snakebeta", activation(x)) < 5e-6


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 33, 100])
def test_block_products_equal_strided_convolutions(length):
    x = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(length))
    taps = torch.randn(1, 1, 12, generator=torch.Generator().manual_seed(1))
    grouped = taps.expand(3, -1, -1)
    padded = functional.pad(x, (5, 5), mode="replicate")
    up = 2 * functional.conv_transpose1d(padded, grouped, stride=2, groups=3)[..., 15:-15]
    assert torch.allclose(upsample2(x, taps), up, atol=5e-6)
    down = functional.conv1d(functional.pad(x, (5, 6), mode="replicate"), grouped, stride=2, groups=3)
    assert torch.allclose(downsample2(x, taps), down, atol=5e-6)


@pytest.mark.parametrize("kind", ["snake", "snakebeta"])
def test_activation_has_right_gradients(kind):
    activation = AntialiasedActivation(2, kind).double()
    x = torch.randn(1, 2, 19, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation, (x,))
    activation(x).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in activation.parameters())


def test_activation_reaches_as_far_as_it_says():
    activation = AntialiasedActivation(1, "snakebeta").requires_grad_(False)
    x = torch.zeros(1, 1, 64)
    bumped = x.clone()
    bumped[..., 32] = 1.0
    changed = (activation(x) != activation(bumped)).flatten().nonzero().flatten()
    assert (changed.min(), changed.max()) == (32 - ACTIVATION_REACH, 32 + ACTIVATION_REACH)


def test_snake_has_one_parameter_and_divides_by_it(units):
    activation = AntialiasedActivation(6, "snake")
    assert sorted(dict(activation.named_parameters())) == ["act.alpha"]
    x = units[1]
    with torch.no_grad():
        activation.act.alpha.fill_(0.5)
    frequency = torch.tensor(0.5).exp()
    expected = x + torch.sin(x * frequency) ** 2 / (frequency + 1e-9)
    assert torch.allclose(activation.act(x), expected, atol=1e-6)


@pytest.mark.parametrize("snake", ["snake", "snakebeta"])
@pytest.mark.parametrize("final", ["tanh", "clamp"])
def test_any_layout_gives_hop_samples_per_frame_within_one(toy, snake, final):
    vocoder = toy(replace(DEMO, snake=snake, final=final))
    assert ("conv_post.bias" in vocoder.state_dict()) == (final == "tanh")
    wave = vocoder(torch.randn(2, 80, 5) - 2)
    assert wave.shape == (2, 1, 5 * 256) and vocoder.hop_length == 256
    assert wave.abs().max() <= 1 and wave.std() > 0


def test_final_clamp_reaches_the_limit_and_tanh_does_not(rule_state):
    peaks = {}
    for final in ("tanh", "clamp"):
        config = replace(TINY, final=final)
        state = rule_state(weight_norm_shapes(config), 3)
        state["conv_post.weight_g"] = torch.full((1, 1, 1), 4.0)
        peaks[final] = build(config, state)(torch.randn(1, 80, 8)).abs().max()
    assert peaks["clamp"] == 1.0 and peaks["tanh"] != 1.0


@pytest.mark.parametrize("form", ["weight_g", "parametrizations"])
def test_both_forms_of_weight_norm_equal_torch(form):
    conv = torch.nn.ConvTranspose1d(6, 4, 8)
    old = {
        "ups.0.0.weight_g": torch.rand(6, 1, 1),
        "ups.0.0.weight_v": torch.randn(6, 4, 8),
        "ups.0.0.bias": torch.zeros(4),
    }
    new = {
        "ups.0.0.parametrizations.weight.original0": old["ups.0.0.weight_g"],
        "ups.0.0.parametrizations.weight.original1": old["ups.0.0.weight_v"],
        "ups.0.0.bias": old["ups.0.0.bias"],
    }
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Sequential(conv)[0])
    normed.load_state_dict({key.removeprefix("ups.0.0."): value for key, value in new.items()})
    folded = fold_weight_norm(old if form == "weight_g" else new)
    assert sorted(folded) == ["ups.0.0.bias", "ups.0.0.weight"]
    assert torch.allclose(folded["ups.0.0.weight"], normed.weight, atol=1e-6)


def test_folding_weight_norm_twice_changes_nothing(rule_state):
    once = fold_weight_norm(rule_state(weight_norm_shapes(TINY), 3))
    twice = fold_weight_norm(once)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_half_a_weight_norm_pair_is_refused(rule_state):
    state = rule_state(weight_norm_shapes(TINY), 3)
    del state["ups.1.0.weight_g"]
    with pytest.raises(CheckpointError, match=r"only one of ups\.1\.0\.weight_g"):
        fold_weight_norm(state)


def test_filters_of_the_file_win_over_computed_ones():
    state = {
        "activation_post.act.alpha": torch.zeros(3),
        "activation_post.upsample.filter": torch.ones(1, 1, 12),
    }
    filled = add_missing_filters(state)
    assert torch.equal(filled["activation_post.upsample.filter"], torch.ones(1, 1, 12))
    assert torch.equal(filled["activation_post.downsample.lowpass.filter"], antialias_filter())


@pytest.mark.parametrize(
    "config", [DEMO, TINY, replace(DEMO, final="clamp", upsample_kernels=(12, 8, 4, 8, 4))]
)
def test_receptive_field_is_exact(config):
    """All weights positive and nothing bent, so that every path adds and none cancels."""
    vocoder = BigVGAN(config).double().requires_grad_(False)
    for key, value in vocoder.state_dict().items():
        value.fill_(-30.0 if ".act." in key or key.startswith("activation_post.act") else 0.1)
        if key.endswith("bias"):
            value.zero_()
    reach = vocoder.receptive_field
    frames = 2 * reach + 9
    centre = frames // 2
    mel = torch.zeros(1, 80, frames, dtype=torch.float64)
    mel[..., centre] = 1e-9
    changed = vocoder(mel).flatten().nonzero().flatten() // vocoder.hop_length
    assert max(centre - changed.min(), changed.max() - centre) == reach


def test_a_mel_frame_outside_the_receptive_field_changes_nothing(toy):
    vocoder = toy(DEMO)
    reach, hop = vocoder.receptive_field, vocoder.hop_length
    mel = torch.randn(1, 80, reach + 12, generator=torch.Generator().manual_seed(0)) - 2
    bumped = mel.clone()
    bumped[..., -1] += 5
    difference = (vocoder(mel) - vocoder(bumped)).abs().unflatten(-1, (-1, hop)).amax(dim=(0, 1, 3))
    assert difference[:11].max() == 0
    assert difference[-1] > 1e-3


@pytest.mark.parametrize("chunk_frames", [7, 16, 200])
def test_chunks_equal_the_whole_run(toy, chunk_frames):
    vocoder = toy(DEMO)
    mel = torch.randn(2, 80, 61, generator=torch.Generator().manual_seed(0)) - 2
    whole = vocoder(mel)
    chunked = vocode_in_chunks(vocoder, mel, chunk_frames)
    assert chunked.shape == whole.shape
    assert (chunked - whole).abs().max() < 1e-5


def test_chunks_report_and_can_be_cancelled(toy):
    seen = []

    def stop_at_second(progress):
        seen.append((progress.step, progress.total))
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        vocode_in_chunks(toy(TINY), torch.zeros(1, 80, 10), 4, stop_at_second)
    assert seen == [(0, 10), (4, 10)]
    with pytest.raises(InputError, match="1 frame or more, not 0"):
        vocode_in_chunks(toy(TINY), torch.zeros(1, 80, 10), 0)


def test_wrong_shape_is_refused(toy):
    with pytest.raises(InputError, match=r"\(B, 80, F\), not \(1, 128, 4\)"):
        toy(TINY)(torch.zeros(1, 128, 4))


def test_bf16_weights_take_and_give_float32(toy):
    mel = torch.randn(1, 80, 6, generator=torch.Generator().manual_seed(0)) - 2
    expected = toy()(mel)
    wave = toy().bfloat16()(mel)
    assert wave.dtype == torch.float32 and torch.isfinite(wave).all()
    assert (wave - expected).abs().max() < 0.1


@pytest.fixture
def laid_out(monkeypatch):
    """Have a vocoder lay out its channels side by side whatever the length."""
    return lambda: monkeypatch.setattr(bigvgan, "_LARGE", 0)


@pytest.mark.parametrize("config", [DEMO, TINY, replace(DEMO, snake="snake", final="clamp")])
@pytest.mark.parametrize("shape", [(1, 80, 2), (2, 80, 13)])
def test_long_sounds_take_a_faster_way_to_the_same_wave(toy, laid_out, config, shape):
    vocoder = toy(config)
    mel = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) - 2
    expected = vocoder(mel)
    seen = []
    vocoder.resblocks[0].register_forward_hook(lambda _, __, out: seen.append(out))
    laid_out()
    assert (vocoder(mel) - expected).abs().max() < 1e-5
    assert seen[0].shape[1] == config.widths[0] and seen[0].stride(1) == 1


def test_faster_way_is_for_large_activations_without_gradients(toy, monkeypatch):
    vocoder = toy(TINY)  # 4 channels at 16 times the rate: 64 values a frame; 8 at 8 times likewise
    mel = torch.randn(1, 80, 10) - 2
    layouts = []
    vocoder.conv_pre.register_forward_hook(lambda _, __, out: layouts.append(out.stride(1) == 1))
    for least, given in ((640, mel), (641, mel), (640, mel.clone().requires_grad_())):
        monkeypatch.setattr(bigvgan, "_LARGE", least)
        vocoder(given)
    assert layouts == [True, False, False]


def test_gradients_are_those_of_the_plain_form(toy, laid_out):
    vocoder = toy(TINY)
    mel = (torch.randn(1, 80, 10, generator=torch.Generator().manual_seed(0)) - 2).requires_grad_()
    (before,) = torch.autograd.grad(vocoder(mel).square().sum(), mel)
    laid_out()
    (after,) = torch.autograd.grad(vocoder(mel).square().sum(), mel)
    assert torch.equal(before, after) and before.abs().max() > 0


def test_faster_way_is_nearer_to_float32_in_bfloat16(toy, laid_out):
    mel = torch.randn(2, 80, 40, generator=torch.Generator().manual_seed(0)) - 2
    exact = toy()(mel)
    before = (toy().bfloat16()(mel) - exact).norm()
    laid_out()
    assert (toy().bfloat16()(mel) - exact).norm() < before


@pytest.mark.parametrize(("kernel", "rate"), [(512, 256), (256, 64), (192, 64), (64, 64)])
def test_overlap_add_is_the_transposed_convolution(kernel, rate):
    torch.manual_seed(0)
    plain = torch.nn.ConvTranspose1d(5, 3, kernel, rate, padding=(kernel - rate) // 2)
    fast = OverlapAdd(5, 3, kernel, rate, padding=(kernel - rate) // 2)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 9)
    assert torch.allclose(fast(x), plain(x), atol=1e-5) and fast(x).shape == (2, 3, 9 * rate)


def test_stage_channels_replace_the_halving():
    config = replace(get_config("demo_16k").vocoder, stage_channels=None)
    assert config.widths == (96, 48, 24, 12)
    assert replace(config, stage_channels=(8, 8, 8, 1)).widths == (8, 8, 8, 1)
