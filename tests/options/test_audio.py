import pydantic
import pytest

from selva_audio.errors import InputError
from selva_audio.options import (
    ExciteOptions,
    MatchOptions,
    NormalizeOptions,
    Options,
    RoundtripOptions,
    SmoothOptions,
)

MODELS = (SmoothOptions, MatchOptions, ExciteOptions, NormalizeOptions, RoundtripOptions)


def test_the_defaults_are_those_that_saved_workflows_use() -> None:
    smooth, match, excite, normalize = SmoothOptions(), MatchOptions(), ExciteOptions(), NormalizeOptions()
    assert (smooth.cutoff_hz, smooth.blend) == (12000, 0.7)
    assert (match.mode, match.strength, match.max_gain_db) == ("44k", 0.8, 12)
    assert (excite.cutoff_hz, excite.drive, excite.mix) == (3000, 2, 0.15)
    assert (normalize.target_lufs, normalize.true_peak_dbtp) == (-14, -1)


@pytest.mark.parametrize("model", MODELS)
def test_options_are_frozen_described_and_bounded(model: type[Options]) -> None:
    options = model()
    assert model.model_validate_json(options.model_dump_json()) == options
    for name, schema in model.model_json_schema()["properties"].items():
        assert schema["description"].endswith("."), name
        if schema["type"] == "number":
            assert {"minimum", "maximum"} <= set(schema), name
        with pytest.raises(pydantic.ValidationError):
            setattr(options, name, getattr(options, name))


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (SmoothOptions, {"cutoff_hz": 1999}),
        (SmoothOptions, {"blend": 1.1}),
        (SmoothOptions, {"transition_hz": 2000}),
        (MatchOptions, {"mode": "48k"}),
        (MatchOptions, {"strength": float("nan")}),
        (MatchOptions, {"max_gain_db": 31}),
        (ExciteOptions, {"drive": 0}),
        (ExciteOptions, {"mix": -0.1}),
        (NormalizeOptions, {"target_lufs": 1}),
        (NormalizeOptions, {"loudness": "none"}),
        (RoundtripOptions, {"split": "perhaps"}),
    ],
)
def test_a_value_out_of_range_gets_a_sentence(model: type[Options], values: dict) -> None:
    (name,) = values
    with pytest.raises(InputError, match=f"^{name} = "):
        model.parse(**values)
