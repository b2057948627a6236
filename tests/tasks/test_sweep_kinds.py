import json

import pytest
import torch
from small_style import write_tones

from selva_audio.adapters.vocoder import read_vocoder
from selva_audio.errors import InputError
from selva_audio.options.sweep import experiments, parse_plan, read_plan
from selva_audio.tasks.sweep import run_sweep
from selva_audio.tasks.vocoder import train_vocoder


def test_a_sweep_of_vocoders_gives_what_single_trainings_give(demo_model, tmp_path):
    data = write_tones(tmp_path / "in", 2)
    base = {
        "steps": 1,
        "batch_size": 2,
        "segment_seconds": 0.25,
        "lr": 1e-2,
        "val_fraction": 0.0,
        "grad_checkpoint": False,
    }
    plan = parse_plan(
        {
            "name": "v",
            "kind": "vocoder",
            "data_dir": str(data),
            "output_root": str(tmp_path / "out"),
            "base": base,
            "experiments": [{"id": "alpha"}, {"id": "both", "train_mode": "snake_alpha_beta"}],
        }
    )
    result = run_sweep(demo_model, plan)
    assert result.ids("done") == ["alpha", "both"]
    records = {each["id"]: each for each in result.summary["experiments"]}
    alone = train_vocoder(demo_model, data, tmp_path / "alone", experiments(plan)[0].options)
    one, two = (read_vocoder(path).state for path in (records["alpha"]["checkpoint_path"], alone.path))
    assert all(torch.equal(one[key], two[key]) for key in one) and one.keys() == two.keys()
    assert len(read_vocoder(records["both"]["checkpoint_path"]).state) == 2 * len(one)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ti", {"space": "feature", "lr": 2e-4, "steps": 3000, "timestep_mode": "uniform", "seed": 42}),
        ("vocoder", {"use_gafilter": True, "lambda_phase": 1.0, "segment_seconds": 2.0, "seed": 42}),
    ],
)
def test_files_of_the_pack_have_its_defaults_and_ours_have_ours(tmp_path, kind, expected):
    content = {"data_dir": str(tmp_path), "experiments": [{"id": "a", "group": "x"}]}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    plan = read_plan(path, kind=kind)
    options = experiments(plan)[0].options
    assert plan.is_of_pack and {key: getattr(options, key) for key in expected} == expected
    path.write_text(json.dumps({**content, "kind": kind}))
    ours = read_plan(path)
    assert ours.kind == kind and not ours.is_of_pack
    assert experiments(ours)[0].options == type(options)()
    with pytest.raises(InputError, match="compares adapters"):
        parse_plan({**content, "kind": kind, "eval": {"steps": 1}})
    with pytest.raises(InputError, match="Unknown setting 'rank'"):
        parse_plan({**content, "kind": kind, "base": {"rank": 4}})
