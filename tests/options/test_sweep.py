import json

import pytest

from selva_audio.errors import InputError, MissingFileError
from selva_audio.options.sweep import (
    PACK_DEFAULTS,
    REPLACED,
    RESERVED,
    experiments,
    parse_plan,
    plan_schema,
    read_plan,
)
from selva_audio.options.training import LoraOptions

OURS = {"data_dir": "clips", "kind": "lora"}
# A file as users of the public pack have it.
PACK = {
    "name": "ranks",
    "description": "which rank",
    "data_dir": "clips",
    "output_root": "out/ranks",
    "base": {"steps": 3000, "lr": 3e-4, "target": "attn.qkv linear1", "warmup_steps": 50, "alpha": 0},
    "experiments": [
        {"id": "r64", "description": "wide", "group": "rank", "rank": 64},
        {"id": "r256", "rank": 256, "alpha": 256.0, "init_mode": "standard", "use_rslora": False},
        {"id": "noise", "latent_mixup_alpha": 0.4, "latent_noise_sigma": 0.02, "lr_schedule": "cosine"},
    ],
}


def ids(**values):
    return [each.id for each in experiments(parse_plan(OURS | values))]


def test_grid_and_seeds_make_one_experiment_for_each_combination():
    assert ids(grid={"rank": [8, 16], "lr": [1e-4]}, seeds=[1, 2]) == [
        "rank8_seed1",
        "rank8_seed2",
        "rank16_seed1",
        "rank16_seed2",
    ]


def test_every_experiment_of_a_list_is_run_at_every_point_of_the_grid():
    plan = parse_plan(
        OURS
        | {
            "base": {"steps": 7},
            "experiments": [{"id": "a"}, {"id": "b", "steps": 9}],
            "grid": {"init_mode": ["standard", "pissa"]},
        }
    )
    found = {each.id: (each.options.steps, each.options.init_mode) for each in experiments(plan)}
    assert found == {
        "a_init_mode_standard": (7, "standard"),
        "a_init_mode_pissa": (7, "pissa"),
        "b_init_mode_standard": (9, "standard"),
        "b_init_mode_pissa": (9, "pissa"),
    }


def test_a_grid_of_one_point_needs_no_name_for_it():
    assert ids(grid={"rank": [8]}) == ["run"]
    assert ids(seeds=[5]) == ["run"]


def test_a_plan_of_ours_has_the_defaults_of_a_single_training():
    (only,) = experiments(parse_plan(OURS | {"experiments": [{"id": "a", "rank": 4}]}))
    assert only.options == LoraOptions(rank=4)


def test_a_file_of_the_pack_means_what_it_meant_there():
    plan = parse_plan(PACK)
    wide, plain, noise = experiments(plan)
    assert plan.is_of_pack
    assert wide.options == LoraOptions.parse(
        **PACK_DEFAULTS["lora"]
        | {"steps": 3000, "lr": 3e-4, "target": "attn.qkv linear1", "warmup_steps": 50}
        | {"rank": 64, "alpha": 128.0}
    )
    assert (wide.options.init_mode, wide.options.use_rslora, wide.options.batch_size) == ("pissa", True, 4)
    assert (wide.description, wide.group) == ("wide", "rank")
    assert (plain.options.rank, plain.options.alpha, plain.options.init_mode) == (256, 256.0, "standard")
    assert not plain.options.use_rslora
    assert (noise.options.latent_mixup_alpha, noise.options.latent_noise_sigma) == (0.4, 0.02)


def test_every_key_of_the_pack_is_a_setting_that_reaches_the_options():
    other = {
        "steps": 11, "rank": 3, "lr": 5e-4, "alpha": 7.0, "target": "linear1", "batch_size": 2,
        "warmup_steps": 3, "grad_accum": 2, "save_every": 5, "seed": 9, "timestep_mode": "curriculum",
        "logit_normal_sigma": 0.7, "curriculum_switch": 0.4, "lora_dropout": 0.1, "lora_plus_ratio": 16.0,
        "lr_schedule": "cosine", "init_mode": "standard", "use_rslora": False, "latent_mixup_alpha": 0.2,
        "latent_noise_sigma": 0.05,
    }  # fmt: skip
    assert set(other) == set(PACK_DEFAULTS["lora"])
    base = {"data_dir": "clips", "experiments": [{"id": "a"}]}
    (default,) = experiments(parse_plan(base))
    for key, value in other.items():
        (changed,) = experiments(parse_plan(base | {"base": {key: value}}))
        assert changed.options.model_dump() != default.options.model_dump(), key


def test_resume_path_of_the_pack_names_the_checkpoint():
    (only,) = experiments(
        parse_plan(PACK | {"experiments": [{"id": "a", "resume_path": "old/adapter_step00500.pt"}]})
    )
    assert only.resume == "old/adapter_step00500.pt"


def test_remarks_and_groups_pass_everywhere():
    plan = OURS | {
        "_note": 1,
        "group": "x",
        "description": "d",
        "base": {"_why": "because", "group": "y", "description": "z"},
        "experiments": [{"id": "a", "_tried": [1, 2], "group": "g"}],
    }
    (only,) = experiments(parse_plan(plan))
    assert (only.group, only.description) == ("g", "z")


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"base": {"rnak": 8}, "seeds": [1]}, r"In base: Unknown setting 'rnak'. Did you mean 'rank'\?"),
        ({"grid": {"lrr": [1]}}, r"In grid: Unknown setting 'lrr'. Did you mean 'lr'\?"),
        ({"experiments": [{"id": "a", "step": 8}]}, r"experiment a: .*'step'. Did you mean 'steps'\?"),
        ({"experimentz": []}, r"'experimentz'. Did you mean 'experiments'\?"),
        ({"experiments": [{"id": "a", "rank": 0}]}, "experiment a: rank = 0: .*greater than or equal to 1"),
        ({"experiments": [{"id": "a", "init_mode": "magic"}]}, "init_mode = 'magic'"),
        ({"experiments": [{"rank": 8}]}, "has the id None"),
        ({"experiments": [{"id": 5}]}, "has the id 5"),
        ({"experiments": [{"id": "a"}, {"id": "A"}]}, "Two experiments would be 'A' and 'a'"),
        ({"grid": {"rank": [8, 8]}}, "A value is twice in rank"),
        ({"grid": {"rank": []}}, "no value for 'rank'"),
        ({"grid": {"rank": [8]}, "experiments": [{"id": "a", "rank": 4}]}, "in the grid and in an exp"),
        ({"seeds": [1], "base": {"seed": 3}}, "There are seeds, and a seed as well"),
        ({"seeds": [1, 1]}, "A value is twice in seeds"),
        ({"grid": {"seed": list(range(200)), "rank": list(range(1, 101))}}, "20000 experiments.*at most"),
        ({}, "0 experiments"),
        ({"kind": "glue", "seeds": [1]}, "kind = 'glue'"),
        ({"eval": {"take": 2}, "seeds": [1]}, r"'take'. Did you mean 'takes'\?"),
        ({"eval": {"takes": 0}, "seeds": [1]}, "takes = 0"),
        ({"eval": {}, "experiments": [{"id": "Base"}]}, "no experiment can be called 'Base'"),
        ({"on_error": "panic", "seeds": [1]}, "on_error = 'panic'"),
        ({"data_dir": "", "seeds": [1]}, "data_dir = ''"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(values, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_plan(OURS | values)


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/b",
        "a\\b",
        "..",
        ".",
        "/etc",
        ".hidden",
        "nul",
        "a\0b",
        "x" * 200,
        REPLACED,
        "Prepared",
        *RESERVED,
    ],
)
def test_an_id_that_would_leave_or_disturb_the_folder_is_refused(name):
    with pytest.raises(InputError):
        parse_plan(OURS | {"experiments": [{"id": name}]})


def test_a_value_of_the_grid_cannot_leave_the_folder():
    assert ids(grid={"target": ["../qkv", "attn.qkv conv"]}) == ["target_.._qkv", "target_attn.qkv-conv"]


def test_names_and_folders_that_a_file_leaves_out_follow_from_it(tmp_path):
    (tmp_path / "clips").mkdir()
    path = tmp_path / "first.json"
    path.write_text(json.dumps({"data_dir": "clips", "seeds": [1]}))
    plan = read_plan(path, folders=[tmp_path / "output"])
    assert (plan.name, plan.data_dir) == ("first", str(tmp_path / "clips"))
    assert plan.root == tmp_path / "output" / "lora_sweeps" / "first"


def test_data_is_looked_for_in_the_given_folders_before_beside_the_file(tmp_path):
    for folder in ("one/clips", "two/clips", "clips"):
        (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / "first.json"
    path.write_text(json.dumps(PACK))
    plan = read_plan(path, folders=[tmp_path / "none", tmp_path / "two", tmp_path / "one"])
    assert plan.data_dir == str(tmp_path / "two" / "clips")
    assert plan.root == tmp_path / "none" / "out" / "ranks"


def test_what_is_not_there_is_told_with_every_place(tmp_path):
    with pytest.raises(MissingFileError, match=r"no sweep file .*absent\.json"):
        read_plan(tmp_path / "absent.json")
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PACK))
    with pytest.raises(MissingFileError, match=r"/one/clips, .*/clips\."):
        read_plan(path, folders=[tmp_path / "one"])


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"data_dir": "a", "data_dir": "b"}', "\x00"])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"plan\.json"):
        read_plan(path)


def test_the_schema_knows_every_setting_with_its_range():
    schema = plan_schema()
    settings = set(LoraOptions.model_fields)
    base, each, grid = (
        schema["properties"]["base"],
        schema["properties"]["experiments"]["items"],
        schema["properties"]["grid"],
    )
    assert settings <= set(base["properties"]) and settings <= set(each["properties"])
    assert settings == set(grid["properties"])
    assert base["properties"]["rank"]["minimum"] == 1
    assert grid["properties"]["rank"]["items"]["minimum"] == 1
    assert not base["additionalProperties"] and not each["additionalProperties"]
    assert "id" in each["required"] and schema["required"] == ["data_dir"]


def test_the_schema_accepts_what_is_read_and_refuses_what_is_not():
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(plan_schema()).is_valid
    assert check(PACK | {"_note": 1})
    assert check(OURS | {"grid": {"rank": [8, 16]}, "seeds": [1]})
    assert not check(OURS | {"base": {"rnak": 8}})
    assert not check(OURS | {"experiments": [{"id": "a", "rank": 0}]})
    assert not check({"seeds": [1]})


@pytest.mark.parametrize(
    ("kind", "own", "foreign"), [("ti", "n_tokens", "rank"), ("vocoder", "train_mode", "rank")]
)
def test_the_schema_of_another_kind_has_its_settings(kind, own, foreign):
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(plan_schema(kind)).is_valid
    plan = {"kind": kind, "data_dir": "clips", "seeds": [1]}
    value = {"n_tokens": 4, "train_mode": "all_params"}[own]
    assert check(plan | {"base": {own: value}}) and check(plan | {"grid": {own: [value]}})
    assert not check(plan | {"base": {foreign: 8}}) and not check(plan | {"kind": "lora"})
    assert not check(plan | {"eval": {"steps": 1}})
    assert parse_plan(plan | {"base": {own: value}}).kind == kind
