import copy
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from selva_audio.bundle import PARTS, Part, SelVAModel, load_model
from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError, MissingFileError
from selva_audio.weights import places
from selva_audio.weights.manifest import REINSTALL


def changed_copy(module: nn.Module) -> nn.Module:
    """A copy with one number of its last tensor changed."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        list(other.parameters())[-1].view(-1)[0] += 1e-3
    return other


def test_several_threads_build_a_part_once() -> None:
    built: list[nn.Module] = []
    started = threading.Event()

    def build() -> nn.Module:
        started.wait()
        built.append(nn.Linear(2, 2))
        return built[-1]

    part, found = Part(build, lambda: "x"), []
    threads = [threading.Thread(target=lambda: found.append(part.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert found == built * 4


@torch.no_grad()
def test_a_part_remembers_the_last_few_results() -> None:
    part, made = Part(lambda: nn.Linear(2, 2), lambda: "x"), []

    def ask(key: int) -> int:
        return part.remembered(key, lambda: made.append(key) or key)

    assert [ask(key) for key in (0, 0, 1, 0)] == [0, 0, 1, 0]
    assert made == [0, 1]
    for key in range(2, 33):
        ask(key)
    assert ask(0) == 0 and len(made) == 33, "the one asked for longest ago is forgotten, which is 1"
    ask(1)
    assert made[-2:] == [32, 1]


def test_a_part_remembers_nothing_that_depends_on_gradients_threads_or_inference_mode() -> None:
    part, made = Part(lambda: nn.Linear(2, 2), lambda: "x"), []
    threads = torch.get_num_threads()

    def ask() -> None:
        part.remembered("key", lambda: made.append(torch.get_num_threads()))

    with torch.inference_mode():
        ask()
    ask()
    with torch.no_grad():
        ask()
        ask()
        assert len(made) == 3
        torch.set_num_threads(threads + 1)
        try:
            ask()
        finally:
            torch.set_num_threads(threads)
    ask()
    assert made == [threads, threads, threads, threads + 1, threads]


def test_nothing_is_built_before_it_is_used() -> None:
    model = load_model("demo_16k", device="cpu", precision="fp32")
    assert all("_module" not in vars(model._parts[part]) for part in PARTS)


def test_parts_are_ready_for_inference(demo_model: SelVAModel) -> None:
    for name in PARTS:
        part = getattr(demo_model, name)
        assert not part.training, name
        assert not any(parameter.requires_grad for parameter in part.parameters()), name
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}, name


def test_precision_decides_the_number_format_of_the_weights() -> None:
    model = load_model("demo_16k", device="cpu", precision="bf16")
    assert model.generator.final_layer.conv.weight.dtype == torch.bfloat16
    assert model.vocoder.conv_pre.weight.dtype == torch.bfloat16


def test_replace_shares_every_untouched_part_and_changes_nothing(demo_model: SelVAModel) -> None:
    vocoder, before = changed_copy(demo_model.vocoder), demo_model.vocoder
    other = demo_model.replace(vocoder=vocoder)
    assert other.vocoder is vocoder
    assert demo_model.vocoder is before
    assert all(getattr(other, name) is getattr(demo_model, name) for name in PARTS if name != "vocoder")
    assert other.config is demo_model.config and other.policy is demo_model.policy


def test_an_identity_tells_weights_apart_by_content(demo_model: SelVAModel) -> None:
    same = [demo_model.replace(vocoder=copy.deepcopy(demo_model.vocoder)) for _ in range(2)]
    other = demo_model.replace(vocoder=changed_copy(demo_model.vocoder))
    assert same[0].identity("vocoder") == same[1].identity("vocoder")
    assert same[0].identity("vocoder") != other.identity("vocoder")
    assert same[0].identity("vae") == other.identity("vae") == demo_model.identity("vae")
    assert set(other.identities()) == set(PARTS)


def test_replacing_clip_replaces_its_image_tower_too(demo_model: SelVAModel) -> None:
    clip = changed_copy(demo_model.clip)
    other = demo_model.replace(clip=clip)
    assert other.clip is clip and other.image_clip is clip


def test_an_unknown_part_is_refused(demo_model: SelVAModel) -> None:
    with pytest.raises(InputError, match=r"Unknown part 'vocodr'\. Did you mean 'vocoder'\?"):
        demo_model.replace(vocodr=nn.Identity())


def test_a_part_the_variant_lacks_is_a_sentence(mmaudio_model: SelVAModel) -> None:
    with pytest.raises(InputError, match="mmaudio_small_16k has no t5; it has"):
        _ = mmaudio_model.t5


def test_missing_weights_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"generator_small_16k_sup_5\.pth .*Looked at"):
        load_model("small_16k", device="cpu", models_dir=tmp_path, offline=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"variant": "demo16k"}, "Did you mean 'demo_16k'"),
        ({"precision": "int8"}, "Unknown precision 'int8'"),
    ],
)
def test_bad_arguments_are_sentences(arguments: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_model(**{"variant": "demo_16k", "device": "cpu"} | arguments)


@pytest.mark.parametrize("part", PARTS)
def test_a_file_missing_from_the_package_is_told_and_nothing_stands_in_for_it(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = VARIANTS["demo_16k"].files
    for name in set(files.values()) - {files[part]}:
        (tmp_path / name).write_bytes(b"never read")
    monkeypatch.setattr(places, "BUNDLED", tmp_path)
    with pytest.raises(MissingFileError) as refused:
        load_model("demo_16k", device="cpu", precision="fp32")
    message = str(refused.value)
    assert str(tmp_path / files[part]) in message
    assert f"Install selva-audio again: `{REINSTALL}`." in message


def test_the_mel_is_that_of_the_variant(demo_model: SelVAModel) -> None:
    assert demo_model.mel(torch.zeros(1, 16000)).shape[:2] == (1, 80)
