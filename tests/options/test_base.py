import pydantic
import pytest

from selva_audio.errors import InputError
from selva_audio.options import FeatureOptions, GenerateOptions, LoadOptions, Options, OutputOptions

MODELS = (FeatureOptions, GenerateOptions, LoadOptions, OutputOptions)


@pytest.mark.parametrize("model", MODELS)
def test_options_are_frozen_and_every_field_says_what_it_does(model: type[Options]) -> None:
    options = model()
    for name, field in model.model_fields.items():
        assert field.description and field.description.endswith("."), name
        with pytest.raises(pydantic.ValidationError):
            setattr(options, name, getattr(options, name))


@pytest.mark.parametrize("model", MODELS)
def test_every_number_has_a_range(model: type[Options]) -> None:
    for name, schema in model.model_json_schema()["properties"].items():
        if schema.get("type") in ("number", "integer"):
            assert {"minimum", "exclusiveMinimum"} & set(schema), name
            assert {"maximum", "exclusiveMaximum"} & set(schema), name


@pytest.mark.parametrize("model", MODELS)
def test_options_survive_json(model: type[Options]) -> None:
    assert model.model_validate_json(model().model_dump_json()) == model()


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Unknown option 'step'\. Did you mean 'steps'\?"):
        GenerateOptions.parse(step=3)


@pytest.mark.parametrize(
    ("model", "values", "sentence"),
    [
        (GenerateOptions, {"steps": 0}, r"steps = 0: input should be greater than or equal to 1\."),
        (GenerateOptions, {"cfg_strength": float("nan")}, "cfg_strength = nan: input should be a finite"),
        (GenerateOptions, {"solver": "rk4"}, "solver = 'rk4': input should be 'euler', 'midpoint' or 'heun'"),
        (GenerateOptions, {"seed": -1}, "seed = -1"),
        (GenerateOptions, {"seed": 2**63}, "seed = 9223372036854775808"),
        (GenerateOptions, {"takes": 65}, "takes = 65"),
        (GenerateOptions, {"target_lufs": 1}, "target_lufs = 1"),
        (GenerateOptions, {"duration": 1e9}, "duration = 1000000000"),
        (FeatureOptions, {"start": -0.1}, "start = -0.1"),
        (FeatureOptions, {"mask_strength": 1.5}, "mask_strength = 1.5"),
        (FeatureOptions, {"fps": 1001}, "fps = 1001"),
        (FeatureOptions, {"prompt": "x" * 4001}, "prompt = "),
        (OutputOptions, {"bitrate_kbps": 8}, "bitrate_kbps = 8"),
        (LoadOptions, {"precision": "fp8"}, "precision = 'fp8'"),
    ],
)
def test_a_value_out_of_range_gets_a_sentence(model: type[Options], values: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.parse(**values)


def test_each_wrong_field_gets_its_sentence() -> None:
    with pytest.raises(InputError, match=r"steps = 0: .*\. seed = -1: .*\."):
        GenerateOptions.parse(steps=0, seed=-1)
