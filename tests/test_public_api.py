import inspect
import subprocess
import sys

import pytest

import selva_audio as selva


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    for name in selva.__all__:
        assert getattr(selva, name) is not None
        assert name in dir(selva)
    assert selva.__all__ == sorted(selva.__all__, key=lambda name: (not name.isupper(), name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        _ = selva.generat


def test_the_main_functions_take_what_the_design_promises() -> None:
    def parameters(function) -> list[str]:
        return list(inspect.signature(function).parameters)

    assert parameters(selva.load_model) == [
        "variant", "device", "precision", "offload", "models_dir", "offline", "on_progress",
    ]  # fmt: skip
    assert parameters(selva.extract_features) == ["model", "video", "options", "mask", "on_progress"]
    assert parameters(selva.generate) == ["model", "features", "options", "noise", "on_progress"]
    assert parameters(selva.generate_for_video)[:5] == [
        "model",
        "video",
        "output",
        "feature_options",
        "options",
    ]


def test_importing_the_package_imports_nothing_of_it_but_itself() -> None:
    code = "import selva_audio, sys; print(*sorted(name for name in sys.modules if 'selva_audio' in name))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name for name in run.stdout.split() if not name.startswith("__editable__")]
    assert loaded == ["selva_audio"]


def test_options_and_records_come_without_torch() -> None:
    code = (
        "import sys, selva_audio as selva\n"
        "selva.FeatureOptions(), selva.GenerateOptions(), selva.Progress, selva.VARIANTS, selva.Frames\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
