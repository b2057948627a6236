import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_generator import make_generator, moved

from selva_audio.adapters import Adapter, Delta, adapt, dense, read_adapter, write_adapter
from selva_audio.adapters.formats import file_meta
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.weights.io import write_object, write_safetensors

STARTS = [{}, {"use_rslora": True}, {"use_dora": True}, {"init_mode": "pissa"}]
QKV = "fused_blocks.0.attn.qkv"


@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "folder"])
def test_every_form_gives_back_the_same_change(generator, velocity, tmp_path, name, start) -> None:
    adapter = moved(generator, target="qkv conv", **start)
    read = read_adapter(write_adapter(tmp_path / name, adapter))
    expected = velocity(adapt(generator, adapter))
    error = (velocity(adapt(generator, read)) - expected).abs().max() / expected.abs().max()
    assert error < (1e-5 if name == "folder" else 1e-7)
    assert (read.variant, read.meta["steps"], read.clip_conditioning) == ("small_16k", 7, False)
    assert read.notes == ()


def test_the_pt_file_is_the_one_users_know(generator, tmp_path) -> None:
    content = torch.load(
        write_adapter(tmp_path / "a.pt", moved(generator, target="attn.qkv")), weights_only=True
    )
    assert set(content) == {"state_dict", "meta"}
    assert {"variant", "rank", "alpha", "target", "steps"} <= set(content["meta"])
    assert content["meta"]["target"] == ["attn.qkv"]
    assert content["state_dict"][f"{QKV}.lora_A"].shape == (3, 16)
    assert content["state_dict"][f"{QKV}.lora_B"].shape == (48, 3)


def test_a_safetensors_file_tells_its_meta_in_the_header(generator, tmp_path) -> None:
    path = write_adapter(tmp_path / "a.safetensors", moved(generator))
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        meta = json.loads(handle.metadata()["selva_adapter"])
    assert meta["rank"] == 3 and meta["clip_conditioning"] == "off"


def test_the_peft_folder_has_the_names_of_peft(generator, tmp_path) -> None:
    folder = write_adapter(tmp_path / "p", moved(generator, target="qkv conv"))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6.0)
    tensors = load_file(folder / "adapter_model.safetensors")
    assert tensors[f"base_model.model.{QKV}.lora_A.weight"].shape == (3, 16)
    assert tensors["base_model.model.fused_blocks.0.linear1.lora_A.weight"].shape == (3, 16, 3)
    assert tensors["base_model.model.fused_blocks.0.linear1.lora_B.weight"].shape == (16, 3, 1)
    assert {key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for key in tensors} == set(
        config["target_modules"]
    )


def test_peft_itself_computes_the_same(generator, velocity, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    adapter = moved(generator, target="qkv conv")
    folder = write_adapter(tmp_path / "p", adapter)
    model = peft.PeftModel.from_pretrained(make_generator(), folder)
    assert torch.allclose(velocity(model), velocity(adapt(generator, adapter)), atol=1e-5)


def pack_file(path, *, meta, dtype=torch.bfloat16, extra=None):
    random = torch.Generator().manual_seed(0)
    state = {
        f"{QKV}.lora_A": torch.randn(4, 16, generator=random).to(dtype),
        f"{QKV}.lora_B": torch.randn(48, 4, generator=random).to(dtype),
        **(extra or {}),
    }
    write_object(path, {"state_dict": state, "meta": meta} if meta is not None else state)
    return state


@pytest.mark.parametrize(
    ("meta", "scale"),
    [
        ({"variant": "small_16k", "rank": 4, "alpha": 8.0, "target": ["attn.qkv"], "steps": 2000}, 2.0),
        ({"rank": 4, "alpha": 8.0, "use_rslora": True, "timestep_mode": "uniform"}, 4.0),
        ({"rank": 4}, 1.0),
        (None, 1.0),
    ],
    ids=str,
)
def test_files_of_the_pack_mean_what_they_meant_there(tmp_path, meta, scale) -> None:
    state = pack_file(tmp_path / "a.pt", meta=meta)
    adapter = read_adapter(tmp_path / "a.pt")
    expected = scale * state[f"{QKV}.lora_B"].double() @ state[f"{QKV}.lora_A"].double()
    assert torch.allclose(dense(adapter.deltas[QKV]), expected)
    assert adapter.clip_conditioning and adapter.rank == 4
    if meta is not None:
        assert "mis-scaled" in adapter.notes[0]
        again = read_adapter(write_adapter(tmp_path / "b.safetensors", adapter))
        assert again.notes == adapter.notes


def test_a_step_file_tells_its_step(tmp_path) -> None:
    pack_file(tmp_path / "a.pt", meta={"rank": 4})
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    write_object(tmp_path / "b.pt", {**content, "step": 500, "optimizer": {"state": {}}})
    assert read_adapter(tmp_path / "b.pt").meta["steps"] == 500


@pytest.mark.parametrize("name", ["weight", "linear.weight", "base.weight", "base_layer.weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_residual_files_are_changes_of_the_base(generator, velocity, tmp_path, name, dtype) -> None:
    weight = generator.get_submodule(QKV).weight
    bias = generator.get_submodule(QKV).bias
    u, s, vh = torch.linalg.svd(weight)
    a, b = s[:4].sqrt()[:, None] * vh[:4], u[:, :4] * s[:4].sqrt()
    residual = weight - 2.0 * b @ a
    torch.manual_seed(1)
    trained_a, trained_b = a + 0.1 * torch.randn_like(a), b + 0.1 * torch.randn_like(b)
    state = {
        f"{QKV}.lora_A": trained_a.to(dtype),
        f"{QKV}.lora_B": trained_b.to(dtype),
        f"{QKV}.{name}": residual.to(dtype),
        f"{QKV}.{name.replace('weight', 'bias')}": bias.to(dtype),
    }
    meta = {"variant": "small_16k", "rank": 4, "alpha": 8.0, "init_mode": "pissa"}
    write_object(tmp_path / "r.pt", {"state_dict": state, "meta": meta})
    adapter = read_adapter(tmp_path / "r.pt")
    theirs = make_generator()
    with torch.no_grad():
        product = state[f"{QKV}.lora_B"].float() @ state[f"{QKV}.lora_A"].float()
        theirs.get_submodule(QKV).weight.copy_(state[f"{QKV}.{name}"].float() + 2.0 * product)
    expected = velocity(theirs)
    error = (velocity(adapt(generator, adapter)) - expected).abs().max() / expected.abs().max()
    assert error < (1e-4 if dtype == torch.float32 else 0.01)
    base = velocity(generator)
    assert torch.equal(velocity(adapt(generator, adapter, 0)), base)
    full, half = (velocity(adapt(generator, adapter, strength)) - base for strength in (1, 0.5))
    assert 0.3 < float((half * full).sum() / full.square().sum()) < 0.7  # COMPAT 5.3: between both
    with pytest.raises(InputError, match="variant"):
        write_adapter(tmp_path / "w.pt", adapter)
    with pytest.raises(CheckpointError, match="not taken from this base"):
        adapt(make_generator(seed=9), adapter)


def test_peft_patterns_and_other_accounts_set_the_scale(tmp_path) -> None:
    a, b = torch.ones(2, 16), torch.ones(48, 2)
    tensors = {
        f"base_model.model.{QKV}.lora_A.default.weight": a,
        f"base_model.model.{QKV}.lora_B.default.weight": b,
    }
    (tmp_path / "p").mkdir()
    save_file(tensors, tmp_path / "p" / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 8,
        "rank_pattern": {"attn.qkv": 2},
        "alpha_pattern": {QKV: 6},
    }
    (tmp_path / "p" / "adapter_config.json").write_text(json.dumps(config))
    assert read_adapter(tmp_path / "p").deltas[QKV].scale == 3.0
    config = {"rank": 2, "alpha": 10, "target_modules": ["attn.qkv"]}
    save_file({f"{QKV}.lora_A.weight": a, f"{QKV}.lora_B.weight": b}, tmp_path / "x.safetensors")
    assert read_adapter(tmp_path / "x.safetensors").deltas[QKV].scale == 1.0
    (tmp_path / "x_config.json").write_text(json.dumps(config))
    assert read_adapter(tmp_path / "x.safetensors").deltas[QKV].scale == 5.0


def test_layers_of_different_rank_and_scale_keep_theirs(tmp_path) -> None:
    deltas = {
        "x.attn.qkv": Delta(torch.ones(2, 4), torch.ones(4, 2), 0.5),
        "y.attn.qkv": Delta(torch.ones(1, 4), torch.ones(4, 1), 3.0),
    }
    adapter = Adapter(deltas, {"variant": "v"})
    meta = file_meta(adapter)
    assert (meta["rank"], meta["alpha"], meta["rank_pattern"], meta["alpha_pattern"]) == (
        2, 1.0, {"y.attn.qkv": 1}, {"y.attn.qkv": 3.0},
    )  # fmt: skip
    for name in ("a.pt", "a.safetensors", "peft"):
        read = read_adapter(write_adapter(tmp_path / name, adapter))
        for path, delta in deltas.items():
            assert torch.allclose(dense(read.deltas[path]), dense(delta))


class Hostile:
    def __reduce__(self):
        return (print, ("this must not run",))


A, B = torch.ones(2, 4), torch.ones(4, 2)
BAD_STATES = {
    "nothing of LoRA": ({"x.weight": A}, "no key of it ends in lora_A"),
    "half a pair": ({"x.lora_A": A}, "come in pairs"),
    "shapes": ({"x.lora_A": A, "x.lora_B": torch.ones(4, 3)}, "do not multiply"),
    "one axis": ({"x.lora_A": torch.ones(4), "x.lora_B": B}, "do not multiply"),
    "unknown key": ({"x.lora_A": A, "x.lora_B": B, "y.weight": A}, "keys of another kind"),
    "a number": ({"x.lora_A": A, "x.lora_B": 3}, "holds a int"),
    "NaN": ({"x.lora_A": A * float("nan"), "x.lora_B": B}, "not finite"),
    "integers": ({"x.lora_A": A.long(), "x.lora_B": B}, "no fractions"),
    "half an offset": ({"x.lora_A": A, "x.lora_B": B, "x.lora_A0": A}, "come in pairs"),
    "lengths": ({"x.lora_A": A, "x.lora_B": B, "x.dora_m": A[0, :3]}, "3 where 4 are needed"),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_strange_tensors_get_one_sentence(tmp_path, name) -> None:
    state, sentence = BAD_STATES[name]
    write_object(tmp_path / "a.pt", {"state_dict": state, "meta": {}})
    with pytest.raises(CheckpointError, match=sentence):
        read_adapter(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("meta", "sentence"),
    [
        ({"rank": 3}, "has rank 2 where its meta tells 3"),
        ({"alpha": "big"}, "its alpha is 'big'"),
        ({"alpha": float("nan")}, "its alpha is nan"),
        ({"alpha": -1}, "its alpha is -1"),
        ({"alpha": True}, "its alpha is True"),
        ({"rank_pattern": [1]}, "where a mapping is needed"),
        ([1, 2], "where a mapping is needed"),
    ],
    ids=str,
)
def test_a_strange_account_gets_one_sentence(tmp_path, meta, sentence) -> None:
    write_object(tmp_path / "a.pt", {"state_dict": {"x.lora_A": A, "x.lora_B": B}, "meta": meta})
    with pytest.raises(CheckpointError, match=sentence):
        read_adapter(tmp_path / "a.pt")


def test_nothing_is_unpickled(tmp_path, capsys) -> None:
    torch.save({"state_dict": {"x.lora_A": Hostile()}, "meta": {}}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match="could run code"):
            read_adapter(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_missing_cut_and_foreign_files_get_one_sentence(generator, tmp_path) -> None:
    with pytest.raises(MissingFileError, match="There is no adapter"):
        read_adapter(tmp_path / "no.pt")
    with pytest.raises(MissingFileError, match="no PEFT folder"):
        read_adapter(tmp_path)
    for name in ("a.pt", "a.safetensors"):
        path = write_adapter(tmp_path / name, moved(generator))
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_adapter(path)
    write_safetensors(tmp_path / "j.safetensors", {"x.lora_A": A, "x.lora_B": B}, {"selva_adapter": "{"})
    with pytest.raises(CheckpointError, match="no JSON"):
        read_adapter(tmp_path / "j.safetensors")
    write_object(tmp_path / "list.pt", [A])
    with pytest.raises(CheckpointError, match="holds a list"):
        read_adapter(tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"ends in \.bin"):
        write_adapter(tmp_path / "a.bin", moved(generator))


def test_other_kinds_of_peft_are_refused(generator, tmp_path) -> None:
    folder = write_adapter(tmp_path / "p", moved(generator))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "LOHA"}))
    with pytest.raises(CheckpointError, match="LOHA"):
        read_adapter(folder)
