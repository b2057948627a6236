import copy
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.configs import VAE_16K, VAE_44K, VARIANTS, VAEConfig
from selva_audio.errors import CheckpointError, InputError
from selva_audio.models import vae as vae_module
from selva_audio.models.mel import mel_spectrogram
from selva_audio.models.vae import VAE, DiagonalGaussian, fold_magnitude, mp_silu, mp_sum, pixel_norm

DATA = Path(__file__).parents[1] / "golden" / "data"
TOY = VAEConfig(num_mels=80, latent_dim=20, hidden_dim=24)
SIZES = {"16k": (VAE_16K, VARIANTS["small_16k"].mel), "44k": (VAE_44K, VARIANTS["small_44k"].mel)}


def shapes_of(module):
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def build(config, state):
    with torch.device("meta"):
        module = VAE(config)
    module.load_state_dict(fold_magnitude(state), assign=True)
    return module.eval().requires_grad_(False)


@pytest.fixture
def toy_state(rule_state):
    constants = {"data_mean": np.full((1, 80, 1), -2, "f4"), "data_std": np.full((1, 80, 1), 1.5, "f4")}
    return rule_state(shapes_of(VAE(TOY)), 5, constants)


@pytest.fixture
def toy(toy_state):
    return build(TOY, toy_state)


@pytest.fixture(scope="module")
def full_size(rule_state):
    """Full-size rule-made VAE; one is kept, as two would be 2 GB."""

    @lru_cache(maxsize=1)
    def make(size, seed):
        config = SIZES[size][0]
        constants = json.loads((DATA / f"constants_vae_{size}.json").read_text())
        arrays = {key: np.array(constants[key], "f4").reshape(1, -1, 1) for key in ("data_mean", "data_std")}
        with torch.device("meta"):
            shapes = shapes_of(VAE(config))
        return build(config, rule_state(shapes, seed, arrays))

    yield make
    make.cache_clear()


@pytest.mark.parametrize("name", ["vae_16k_0", "vae_16k_1", "vae_44k_0", "vae_44k_1"])
def test_vae_matches_golden(golden, full_size, name):
    g = golden(name)
    size, meta = name.split("_")[1], g.meta
    vae = full_size(size, meta["weights_seed"])
    watched = {
        "dec_conv_in": vae.decoder.conv_in,
        "dec_mid_block_1": vae.decoder.mid.block_1,
        "dec_mid_attn_1": vae.decoder.mid.attn_1,
        "dec_up2_block0": vae.decoder.up[2].block[0],
        "dec_up1_upsample": vae.decoder.up[1].upsample,
    }
    kept = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, key=key: kept.__setitem__(key, out))
        for key, module in watched.items()
    ]
    mel = mel_spectrogram(g.input("wave", (meta["B"], meta["samples"]), kind="wave"), SIZES[size][1])
    posterior = vae.encode(mel)
    rmel = g.input("rmel", (meta["B"], meta["mels"], meta["rmel_frames"]), scale=2.0) - 3.0
    decoded = vae.decode(g.input("z", (meta["B"], meta["D"], meta["latent_frames"])).mT)
    for hook in hooks:
        hook.remove()
    errors = {key: g.error(key, value) for key, value in kept.items()}
    errors["renc_mean"] = g.error("renc_mean", vae.encode(rmel).mean.mT)
    errors["dec"] = g.error("dec", decoded)
    errors["dec_raw"] = g.error("dec_raw", (decoded - vae.data_mean) / vae.data_std)
    assert max(errors.values()) < 5e-5, errors
    encoded = {
        "enc_mean": g.error("enc_mean", posterior.mean.mT),
        "enc_logvar": g.error("enc_logvar", 2 * posterior.std.log().mT),
        "enc_std": g.error("enc_std", posterior.std.mT),
    }
    assert max(encoded.values()) < 5e-4, encoded
    assert g.error("mel", mel) < 5e-3


@pytest.fixture(scope="module")
def units(golden, fill):
    g = golden("units")
    x = torch.from_numpy(fill.make_input("unit.vae", (2, 48, 21), g.meta["seed"]))
    return g, x


def unit_module(units, rule_state, prefix, module):
    """Rule-made and folded ``module`` under the key prefix of the recorded rows."""
    shapes = {f"{prefix}.{key}": shape for key, shape in shapes_of(module).items()}
    state = fold_magnitude(rule_state(shapes, units[0].meta["seed"]))
    module.load_state_dict({key.removeprefix(f"{prefix}."): value for key, value in state.items()})
    return module.requires_grad_(False)


@pytest.mark.parametrize(
    ("row", "operation"),
    [("pixel_norm", pixel_norm), ("mp_silu", mp_silu), ("mp_sum03", lambda x: mp_sum(x, x.flip(1)))],
)
def test_magnitude_preserving_operations_match_golden(units, row, operation):
    assert units[0].error(row, operation(units[1])) < 5e-5


@pytest.mark.parametrize(
    ("row", "prefix", "make"),
    [
        ("mpconv", "mpconv", lambda: vae_module.convolution(48, 32, 3)),
        ("res_block", "res", lambda: vae_module.ResidualBlock(48, 32)),
        ("attn_block", "attn", lambda: vae_module.Attention(48)),
        ("up", "up", lambda: vae_module.Upsample(48)),
        ("down", "down", lambda: vae_module.Downsample(48)),
    ],
)
def test_layers_match_golden(units, rule_state, row, prefix, make):
    module = unit_module(units, rule_state, prefix, make())
    assert units[0].error(row, module(units[1])) < 5e-5


def test_folded_weight_matches_golden(units, rule_state):
    module = unit_module(units, rule_state, "mpconv", vae_module.convolution(48, 32, 3))
    assert units[0].error("mpconv_weight", module.weight) < 5e-5


def test_a_gain_scales_the_output_as_in_golden(units, rule_state):
    module = unit_module(units, rule_state, "mpconv", vae_module.convolution(48, 32, 3))
    assert units[0].error("mpconv_gain", 1.3 * module(units[1])) < 5e-5


def test_folded_filters_keep_the_size_of_unit_noise(toy_state):
    state = fold_magnitude(toy_state)
    norms = torch.cat([w.flatten(1).norm(dim=1) for key, w in state.items() if key.endswith(".weight")])
    assert norms.min() > 0.98 and norms.max() <= 1 + 1e-6
    assert torch.equal(state["data_mean"], toy_state["data_mean"])


def test_folding_leaves_its_argument_alone(toy_state):
    before = {key: value.clone() for key, value in toy_state.items()}
    fold_magnitude(toy_state)
    assert all(torch.equal(before[key], toy_state[key]) for key in before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_folding_twice_is_refused(toy_state, dtype):
    once = {key: value.to(dtype) for key, value in fold_magnitude(toy_state).items()}
    with pytest.raises(CheckpointError, match="normalised already"):
        fold_magnitude(once)


@pytest.mark.parametrize("scale", [0.03, 1.0, 30.0])
def test_weights_of_any_scale_fold_once(toy_state, scale):
    scaled = {k: v * scale if k.endswith(".weight") else v for k, v in toy_state.items()}
    with pytest.raises(CheckpointError):
        fold_magnitude(fold_magnitude(scaled))


@pytest.mark.parametrize("frames", [2, 3, 16, 17])
def test_an_odd_last_frame_is_dropped(toy, frames):
    mel = torch.linspace(-5, 0, 2 * 80 * frames).reshape(2, 80, frames)
    posterior = toy.encode(mel)
    assert posterior.mean.shape == posterior.std.shape == (2, frames // 2, 20)
    assert toy.decode(posterior.mean).shape == (2, 80, frames // 2 * 2)


def test_mean_and_scale_of_the_mel_are_undone(toy):
    other = VAE(TOY)
    state = toy.state_dict() | {
        "data_mean": torch.zeros_like(toy.data_mean),
        "data_std": torch.ones_like(toy.data_std),
    }
    other.load_state_dict(state)
    latent = torch.linspace(-1, 1, 100).reshape(1, 5, 20)
    assert torch.allclose(toy.decode(latent), other.decode(latent) * 1.5 - 2, atol=1e-5)
    mel = torch.linspace(-6, 2, 80 * 8).reshape(1, 80, 8)
    assert torch.allclose(toy.encode(mel).mean, other.encode((mel + 2) / 1.5).mean, atol=1e-5)


def test_log_variance_is_clamped(toy_state):
    state = toy_state | {"encoder.learnable_gain": torch.tensor(1e6)}
    std = build(TOY, state).encode(torch.linspace(-6, 2, 80 * 8).reshape(1, 80, 8)).std
    assert torch.isclose(std.max(), torch.tensor(10.0).exp())
    assert torch.isclose(std.min(), torch.tensor(-15.0).exp())


def test_sample_is_mean_plus_scaled_noise():
    posterior = DiagonalGaussian(torch.full((1, 2, 3), 2.0), torch.full((1, 2, 3), 0.5))
    assert torch.equal(posterior.sample(torch.full((1, 2, 3), 4.0)), torch.full((1, 2, 3), 4.0))


def test_without_encoder_decodes_the_same_and_cannot_encode(toy, toy_state):
    decoder_only = VAE(TOY, encoder=False)
    state = {key: value for key, value in toy_state.items() if not key.startswith("encoder.")}
    decoder_only.load_state_dict(fold_magnitude(state))
    latent = torch.linspace(-1, 1, 60).reshape(1, 3, 20)
    assert torch.equal(decoder_only.decode(latent), toy.decode(latent))
    with pytest.raises(InputError, match="no encoder"):
        decoder_only.encode(torch.zeros(1, 80, 8))


def test_wrong_shapes_are_refused(toy):
    with pytest.raises(InputError, match=r"\(B, 80, F\).*\(1, 128, 8\)"):
        toy.encode(torch.zeros(1, 128, 8))
    with pytest.raises(InputError, match="2 frames or more"):
        toy.encode(torch.zeros(1, 80, 1))
    with pytest.raises(InputError, match=r"\(B, N, 20\).*\(1, 20, 8\)"):
        toy.decode(torch.zeros(1, 20, 8))


def test_bf16_weights_take_and_give_float32(toy):
    half = copy.deepcopy(toy).bfloat16()
    mel = torch.linspace(-6, 2, 80 * 9).reshape(1, 80, 9)
    posterior = half.encode(mel)
    decoded = half.decode(posterior.mean)
    for value in (posterior.mean, posterior.std, decoded):
        assert value.dtype == torch.float32 and torch.isfinite(value).all()
    expected = toy.decode(posterior.mean)
    assert (decoded - expected).abs().max() < 0.05 * expected.abs().max()


def test_normalised_weights_pass_gradients_to_the_stored_ones(toy_state):
    vae = VAE(TOY)
    vae.load_state_dict(toy_state)
    parameters = dict(vae.named_parameters())
    state = vae_module.normalize_magnitude(parameters)
    hidden = torch.func.functional_call(vae.decoder, _below("decoder.", state), (torch.ones(1, 20, 4),))
    hidden.square().sum().backward()
    gradient = parameters["decoder.conv_in.weight"].grad
    stored = parameters["decoder.conv_in.weight"].detach()
    assert gradient.abs().max() > 0
    # A normalised filter does not change with its length, so the gradient is (nearly) at right angles.
    along = (gradient * stored).sum(dim=(1, 2)).abs()
    assert (along < 1e-2 * gradient.flatten(1).norm(dim=1) * stored.flatten(1).norm(dim=1)).all()


def _below(prefix, state):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
