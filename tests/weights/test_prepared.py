import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from selva_audio.bundle import PARTS, load_model
from selva_audio.models.layers import ChannelLastConv1d
from selva_audio.weights import places, prepared
from selva_audio.weights.io import read_state_dict, write_safetensors
from selva_audio.weights.prepared import PreparedPart
from selva_audio.weights.store import WeightStore


@pytest.fixture(autouse=True)
def keep_small_parts(monkeypatch):
    """The parts of the embedded model are too small to be kept."""
    monkeypatch.setattr(prepared, "_WORTH", 0)
    monkeypatch.setattr(prepared, "_FREE_BYTES", 0)


def place(identity="md5:1", config="sizes"):
    return PreparedPart.of(
        "vae", weights=Path("v1-16.pth"), identity=identity, config=config, dtype=torch.float32
    )


def small(value=1.0):
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), ChannelLastConv1d(2, 4, 3)).requires_grad_(
        False
    )
    module[0].weight.fill_(value)
    module[2].weight.data = module[2].weight.data.transpose(1, 2).contiguous().transpose(1, 2)
    return module.eval()


def on_meta():
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), ChannelLastConv1d(2, 4, 3))


def kept_files():
    return sorted(path.name for path in prepared.folder().iterdir()) if prepared.folder().exists() else []


def test_a_part_comes_back_with_every_number_and_its_order_in_memory():
    module = small()
    assert place().load(on_meta) is None and not place().is_kept
    assert place().save(module) and place().is_kept
    again = place().load(on_meta)
    assert not again.training and not any(each.requires_grad for each in again.parameters())
    for name, value in module.state_dict().items():
        other = again.state_dict()[name]
        assert torch.equal(other, value) and other.stride() == value.stride() and other.dtype == value.dtype


def test_an_edit_in_memory_does_not_reach_the_file():
    place().save(small())
    with torch.no_grad():
        place().load(on_meta)[0].weight.fill_(7.0)
    assert float(place().load(on_meta)[0].weight[0, 0]) == 1.0


def test_other_weights_and_sizes_have_places_of_their_own_and_take_the_older_ones():
    places = [place(), place(identity="md5:2"), place(config="other sizes")]
    assert len({each.path for each in places}) == 3
    other_part = PreparedPart.of(
        "vae", weights=Path("v1-44.pth"), identity="md5:1", config="sizes", dtype=torch.float32
    )
    other_part.save(small())
    for each in places:
        assert each.save(small())
        assert kept_files() == sorted([each.path.name, other_part.path.name])


@pytest.mark.parametrize("damage", ["cut", "text", "other keys"])
def test_a_damaged_file_is_taken_away(damage, caplog):
    place().save(small())
    content = place().path.read_bytes()
    if damage == "cut":
        place().path.write_bytes(content[:-20])
    elif damage == "text":
        place().path.write_text("{}")
    else:
        assert PreparedPart(place().path).save(nn.Linear(2, 2))
    assert place().load(on_meta) is None
    assert "made again" in caplog.text
    assert not place().is_kept


def test_nothing_is_kept_when_switched_off(monkeypatch):
    place().save(small())
    monkeypatch.setenv("SELVA_PREPARED", "off")
    assert not place().is_kept and place().load(on_meta) is None
    assert not place(identity="md5:2").save(small())
    assert len(kept_files()) == 1


def test_a_full_disk_and_small_parts_keep_nothing(monkeypatch):
    monkeypatch.setattr(prepared, "_FREE_BYTES", 2**60)
    assert not place().save(small())
    monkeypatch.setattr(prepared, "_FREE_BYTES", 0)
    monkeypatch.setattr(prepared, "_WORTH", 10_000)
    assert not place().save(small())
    assert kept_files() == []


def test_a_folder_that_cannot_be_written_is_no_error():
    prepared.folder().parent.mkdir(parents=True, exist_ok=True)
    prepared.folder().write_text("not a folder")
    assert not place().save(small())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_loads_the_second_time_without_its_weight_files_being_read(precision, monkeypatch):
    first = load_model("demo_16k", device="cpu", precision=precision, offload="keep_in_vram")
    state = {part: getattr(first, part).state_dict() for part in PARTS}
    assert len(kept_files()) == len(PARTS)

    def refuse(*_, **__):
        raise AssertionError("a weight file is read")

    monkeypatch.setattr(WeightStore, "read", refuse)
    second = load_model("demo_16k", device="cpu", precision=precision, offload="keep_in_vram")
    for part in PARTS:
        for name, value in getattr(second, part).state_dict().items():
            assert torch.equal(value, state[part][name]), (part, name)
            assert value.stride() == state[part][name].stride(), (part, name)


def test_exact_parts_are_those_of_the_weight_file():
    model = load_model("demo_16k", device="cpu", precision="bf16")
    load_model("demo_16k", device="cpu", precision="bf16").vocoder  # noqa: B018 (keeps it)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELVA_PREPARED", "off")
        expected = load_model("demo_16k", device="cpu", precision="fp32").vocoder.state_dict()
    found = model.exact("vocoder").state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_part_leaves_memory_after_its_stage_where_it_can_be_mapped_again():
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with model.at_work("vae", "vocoder") as (vae, vocoder):
        assert vae is model.vae and vocoder is model.vocoder
    assert not model._part("vae").is_built
    assert model.vae is not vae and torch.equal(model.vae.data_mean, vae.data_mean)
    with pytest.raises(RuntimeError, match="stop"), model.at_work("vae"):
        raise RuntimeError("stop")
    assert not model._part("vae").is_built


@pytest.mark.parametrize("offload", ["keep_in_vram", "auto"])
def test_a_part_stays_where_it_is_kept_or_cannot_be_mapped(offload, monkeypatch):
    if offload == "auto":
        monkeypatch.setenv("SELVA_PREPARED", "off")
    model = load_model("demo_16k", device="cpu", precision="fp32", offload=offload)
    with model.at_work("vae") as (vae,):
        pass
    assert model.vae is vae


def test_a_part_that_was_given_stays():
    model = load_model("demo_16k", device="cpu", precision="fp32")
    given = model.exact("vae")
    other = model.replace(vae=given)
    with other.at_work("vae"):
        pass
    assert other.vae is given


def test_a_changed_weight_file_is_prepared_anew(tmp_path, monkeypatch):
    shutil.copytree(places.BUNDLED, tmp_path / "demo")
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "demo")
    before = load_model("demo_16k", device="cpu", precision="fp32")
    file = tmp_path / "demo" / before.config.files["vae"]
    state = read_state_dict(file)
    assert torch.equal(before.vae.data_mean, state["data_mean"])
    changed = {name: value.clone() for name, value in state.items()}
    changed["data_mean"] += 1
    write_safetensors(file, changed)
    after = load_model("demo_16k", device="cpu", precision="fp32")
    assert torch.equal(after.vae.data_mean, changed["data_mean"])
    assert sum(".vae." in name for name in kept_files()) == 1
