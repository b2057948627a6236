import copy
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from small_style import equal_tensors, mel_of, snapshot, toy_model

from selva_audio.adapters.vocoder import (
    PACK_NOTE,
    TunedVocoder,
    prepare,
    read_vocoder,
    tune,
    tuned_names,
    vocoder_digest,
    write_vocoder,
)
from selva_audio.configs import VARIANTS
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.models.bigvgan import BigVGAN
from selva_audio.models.gafilter import add_filters
from selva_audio.weights.io import write_object, write_safetensors

MODES = ("snake_alpha_only", "snake_alpha_beta", "all_params")


def base() -> BigVGAN:
    return toy_model().vocoder


def moved(mode: str = "snake_alpha_only", kernel: int = 0) -> TunedVocoder:
    """A tuned vocoder as training would leave it."""
    _, parameters = prepare(base(), mode, kernel)
    random = torch.Generator().manual_seed(1)
    state = {
        name: (value + 0.05 * torch.randn(value.shape, generator=random)).detach()
        for name, value in parameters.items()
    }
    meta = {"variant": "small_16k", "steps": 7}
    return TunedVocoder(state, mode, kernel, 16000, vocoder_digest(base()), meta)


def sound(vocoder: BigVGAN) -> torch.Tensor:
    with torch.no_grad():
        return vocoder(mel_of())


@pytest.mark.parametrize("variant", ["small_16k", "small_44k"])
def test_the_real_vocoders_have_27240_alphas(variant):
    with torch.device("meta"):
        vocoder = BigVGAN(VARIANTS[variant].vocoder)
    counts = [
        sum(vocoder.get_parameter(name).numel() for name in tuned_names(vocoder, mode)) for mode in MODES
    ]
    assert counts[:2] == [27_240, 2 * 27_240]
    assert counts[2] == sum(each.numel() for each in vocoder.parameters())
    add_filters(vocoder, 9)
    with_filters = sum(vocoder.get_parameter(name).numel() for name in tuned_names(vocoder, MODES[0]))
    assert with_filters == 272_184  # of which the public pack said 27 thousand


@pytest.mark.parametrize("kernel", [0, 5])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["v.pt", "v.safetensors"])
def test_every_form_gives_back_the_same_vocoder(tmp_path, name, mode, kernel):
    tuned = moved(mode, kernel)
    before = snapshot(base())
    read = read_vocoder(write_vocoder(tmp_path / name, tuned))
    assert torch.equal(sound(tune(base(), read)), sound(tune(base(), tuned)))
    assert not torch.equal(sound(tune(base(), read)), sound(base()))
    assert (read.mode, read.kernel_size, read.sample_rate, read.base_sha256) == (
        mode, kernel, 16000, vocoder_digest(base()),
    )  # fmt: skip
    assert read.meta == tuned.meta and read.notes == ()
    assert equal_tensors(before, snapshot(base()))


def test_only_what_is_tuned_is_new_and_in_the_file(tmp_path):
    tuned = moved()
    new, own = dict(tune(base(), tuned).named_parameters()), dict(base().named_parameters())
    for name in own:
        assert (new[name] is own[name]) == (not name.endswith(".act.alpha"))
    assert set(tuned.state) == {name for name in own if name.endswith(".act.alpha")}
    whole = sum(each.numel() for each in own.values()) * 4
    assert write_vocoder(tmp_path / "v.pt", tuned).stat().st_size < whole / 4


def test_a_vocoder_of_another_number_format_gets_that_format():
    low = copy.deepcopy(base()).to(torch.bfloat16)
    new = tune(low, moved())
    assert {each.dtype for each in new.parameters()} == {torch.bfloat16}
    assert base().conv_pre.weight.dtype == torch.float32


def pack_state(kernel: int) -> dict[str, torch.Tensor]:
    vocoder = tune(base(), moved("all_params", kernel))
    return {key: value.clone() for key, value in vocoder.state_dict().items()}


@pytest.mark.parametrize("kernel", [0, 9])
def test_files_of_the_public_pack_do_what_they_did(tmp_path, kernel):
    content = {
        "generator": pack_state(kernel),
        "has_gafilter": bool(kernel),
        "gafilter_kernel_size": kernel or 9,
    }
    write_object(tmp_path / "v.pt", content)
    read = read_vocoder(tmp_path / "v.pt")
    assert torch.equal(sound(tune(base(), read)), sound(tune(base(), moved("all_params", kernel))))
    assert read.kernel_size == kernel and read.notes == (PACK_NOTE,)


def test_files_of_the_first_version_and_of_upstream_load(tmp_path):
    state = pack_state(0)
    expected = sound(tune(base(), moved("all_params")))
    normed = {}
    for key, value in state.items():
        if key.endswith("filter"):
            continue  # some of upstream's files are without them
        if value.ndim == 3:
            stem = key.removesuffix(".weight")
            normed[f"{stem}.weight_g"] = value.norm(dim=(1, 2), keepdim=True)
            normed[f"{stem}.weight_v"] = 3 * value
        else:
            normed[key] = value
    for name, content in {
        "old": {"generator": state},
        "bare": state,
        "normed": {"generator": normed},
    }.items():
        write_object(tmp_path / f"{name}.pt", content)
        got = sound(tune(base(), read_vocoder(tmp_path / f"{name}.pt")))
        assert torch.allclose(got, expected, atol=2e-3), name


def test_the_file_is_the_one_the_page_describes(tmp_path):
    content = torch.load(write_vocoder(tmp_path / "v.pt", moved()), weights_only=True)
    assert set(content) == {"format", "mode", "sample_rate", "base_sha256", "state_dict", "meta"}
    assert content["format"] == "selva_bigvgan/1"
    with safe_open(write_vocoder(tmp_path / "v.safetensors", moved()), framework="pt") as handle:
        assert '"selva_bigvgan/1"' in handle.metadata()["selva_bigvgan"]


def test_files_of_other_vocoders_are_refused_with_the_difference(tmp_path):
    other = toy_model("small_44k").vocoder
    write_object(tmp_path / "v.pt", {"generator": snapshot(other)})
    with pytest.raises(CheckpointError, match=r"conv_pre.weight has the shape .* Choose the variant"):
        tune(base(), read_vocoder(tmp_path / "v.pt"))
    tuned = moved()
    name = next(iter(tuned.state))
    fewer = {key: value for key, value in tuned.state.items() if key != name}
    with pytest.raises(CheckpointError, match="is missing"):
        tune(base(), replace(tuned, state=fewer))
    with pytest.raises(CheckpointError, match="is not in the vocoder"):
        tune(base(), replace(tuned, state={**tuned.state, "resblocks.99.x": tuned.state[name]}))


BAD = {
    "a list": ([1, 2], "holds a list"),
    "another format": ({"format": "selva_bigvgan/9"}, "selva_bigvgan/9"),
    "no vocoder": ({"x.weight": torch.ones(2)}, "no conv_pre"),
    "a number": ({"generator": {"conv_pre.weight": 3}}, "holds a int"),
    "NaN": ({"generator": {"conv_pre.weight": torch.full((2,), float("nan"))}}, "not finite"),
    "nothing": ({"generator": {}}, "no tensors"),
    "mode": ({"mode": "all"}, "its mode is 'all'"),
    "no base": ({"base_sha256": ""}, "sample rate and its base"),
    "taps": ({"meta": {"gafilter_kernel_size": 4}}, "odd number"),
    "meta": ({"meta": [1]}, "mapping is needed"),
    "no tensors of ours": ({"state_dict": {}}, "no tensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_strange_files_get_one_sentence(tmp_path, name):
    content, sentence = BAD[name]
    if isinstance(content, dict) and not content.keys() & {"generator", "format", "x.weight"}:
        whole = torch.load(write_vocoder(tmp_path / "good.pt", moved()), weights_only=True)
        content = {**whole, **content}
    write_object(tmp_path / "v.pt", content)
    with pytest.raises(CheckpointError, match=sentence):
        read_vocoder(tmp_path / "v.pt")


class Hostile:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"generator": {"conv_pre.weight": Hostile()}}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match="could run code"):
            read_vocoder(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_missing_cut_and_misnamed_files_get_one_sentence(tmp_path):
    with pytest.raises(MissingFileError, match="There is no vocoder"):
        read_vocoder(tmp_path / "no.pt")
    for name in ("a.pt", "a.safetensors"):
        path = write_vocoder(tmp_path / name, moved())
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_vocoder(path)
    write_safetensors(tmp_path / "j.safetensors", {"x": torch.ones(2)}, {"selva_bigvgan": "{"})
    with pytest.raises(CheckpointError, match="no JSON"):
        read_vocoder(tmp_path / "j.safetensors")
    with pytest.raises(InputError, match=r"must end in \.pt"):
        write_vocoder(tmp_path / "v.bin", moved())
