import numpy as np
import pytest
import torch
from torch import Tensor

from selva_audio.configs import VARIANTS, VideoEncoderConfig
from selva_audio.errors import InputError
from selva_audio.models import synchformer
from selva_audio.models.synchformer import Synchformer

TOY = VARIANTS["demo_16k"].video_encoder


def recorded_video(record) -> Tensor:
    """The golden files' input: a coarse pattern in 16-pixel squares plus fine noise."""
    batch, frames = record.meta["B"], record.meta["F"]
    coarse = record.input("coarse", (batch, frames, 3, 14, 14), kind="signed", scale=0.7)
    fine = record.input("fine", (batch, frames, 3, 224, 224), kind="signed", scale=0.3)
    return coarse.repeat_interleave(16, 3).repeat_interleave(16, 4) + fine


def toy(seed: int = 0) -> Synchformer:
    torch.manual_seed(seed)
    module = Synchformer(TOY)
    synchformer.initialize(module)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()


@pytest.mark.slow  # the quick tier runs the same network inside textsynch_0
@pytest.mark.parametrize("index", range(2))
def test_features_equal_the_recorded_ones(golden, rule_state, index: int) -> None:
    record = golden(f"synchformer_{index}")
    config = VARIANTS["mmaudio_small_16k"].video_encoder
    with torch.device("meta"):
        module = Synchformer(config)
    shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
    module.load_state_dict(rule_state(shapes, record.meta["weights_seed"]), assign=True)
    with torch.no_grad():
        features = module.eval().encode(recorded_video(record))
    assert record.error("feat", features) < 2e-5


@pytest.mark.parametrize(("frames", "segments"), [(16, 1), (23, 1), (24, 2), (47, 4)])
def test_a_clip_gives_eight_features_per_whole_step(frames: int, segments: int) -> None:
    with torch.no_grad():
        features = toy().encode(torch.zeros(2, frames, 3, 64, 64))
    assert features.shape == (2, 8 * segments, TOY.width) and features.dtype == torch.float32


def test_cut_segments_are_the_windows_of_the_clip() -> None:
    frames = torch.randn(2, 33, 3, 4, 4)
    segments = synchformer.cut_segments(frames)
    assert segments.shape == (2, 3, 16, 3, 4, 4)
    for index in range(3):
        assert torch.equal(segments[:, index], frames[:, 8 * index : 8 * index + 16])


def test_segments_fed_in_pieces_give_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    module, segments = toy(), synchformer.cut_segments(torch.randn(2, 48, 3, 64, 64))
    with torch.no_grad():
        whole = module.encode_segments(segments)
        streamed = torch.cat([module.encode_segments(piece) for piece in segments.split(2, dim=1)], dim=1)
        monkeypatch.setattr(synchformer, "TOKENS_AT_ONCE", 1)
        one_by_one = module.encode_segments(segments)
    torch.testing.assert_close(streamed, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one_by_one, whole, rtol=1e-5, atol=1e-5)


def test_a_patch_attends_only_to_its_group_and_the_class_token() -> None:
    """Spelled out token by token, against the grouped computation."""
    torch.manual_seed(1)
    times, places, heads, dim = 3, 4, 2, 8
    layer = synchformer.DividedAttention(dim, heads)
    x = torch.randn(2, 1 + times * places, dim)
    q, k, v = layer.qkv(x)[1].view(-1, 3, heads, dim // heads).unbind(1)
    for over, axis in (("time", 1), ("space", 0)):
        rows = []
        for query in range(len(q)):
            same = [(key - 1, query - 1) for key in range(1, len(q))]
            group = [0] + [
                key + 1 for key, me in same if divmod(key, places)[axis] == divmod(me, places)[axis]
            ]
            keys = list(range(len(q))) if query == 0 else group
            weights = torch.einsum("hd,khd->hk", q[query], k[keys]).div((dim // heads) ** 0.5).softmax(-1)
            rows.append(torch.einsum("hk,khd->hd", weights, v[keys]).flatten())
        expected = layer.proj(torch.stack(rows))
        torch.testing.assert_close(layer(x, times, over=over)[1], expected)


def test_the_class_row_alone_equals_torchs_whole_encoder_layer() -> None:
    torch.manual_seed(2)
    aggregation = synchformer.SpatialAggregation(TOY)
    whole = torch.nn.TransformerEncoderLayer(
        TOY.width, TOY.num_heads, TOY.mlp_dim, activation="gelu", batch_first=True, norm_first=True,
        layer_norm_eps=synchformer.NORM_EPS,
    ).eval()  # fmt: skip
    state = aggregation.state_dict()
    first = state.pop("cls_token").normal_()
    whole.load_state_dict(state)
    patches = torch.randn(5, 16, TOY.width)
    expected = whole(torch.cat([first.expand(5, -1, -1), patches], dim=1))[:, 0]
    torch.testing.assert_close(aggregation(patches), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_weights_take_float32_frames_and_return_float32() -> None:
    module, frames = toy(), torch.randn(1, 16, 3, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        exact, rounded = module.encode(frames), module.bfloat16().encode(frames)
    assert rounded.dtype == torch.float32 and rounded.isfinite().all()
    assert (rounded - exact).abs().max() < 0.1 * exact.abs().max()


def test_initial_weights_are_finite_whatever_was_there() -> None:
    module = Synchformer(TOY)
    for parameter in module.parameters():
        parameter.data.fill_(np.nan)
    synchformer.initialize(module)
    with torch.no_grad():
        features = module.encode(torch.rand(1, 16, 3, 64, 64))
    assert features.isfinite().all() and features.std() > 0


@pytest.mark.parametrize(
    "shape", [(1, 15, 3, 64, 64), (16, 3, 64, 64), (1, 16, 3, 64, 32), (1, 16, 1, 64, 64)]
)
def test_frames_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        toy().encode(torch.zeros(shape))


def test_sizes_come_from_the_configuration() -> None:
    config = VideoEncoderConfig(image_size=32, patch_size=8, width=24, depth=1, num_heads=2, mlp_dim=40)
    with torch.no_grad():
        assert Synchformer(config).encode(torch.zeros(1, 16, 3, 32, 32)).shape == (1, 8, 24)
