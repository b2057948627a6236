import importlib.metadata
from pathlib import Path

import pytest

from selva_audio.configs import VARIANTS
from selva_audio.tasks import doctor
from selva_audio.tasks.doctor import diagnose
from selva_audio.weights import places
from selva_audio.weights.manifest import REINSTALL


def test_everything_is_looked_at_and_what_is_missing_has_advice(tmp_path: Path) -> None:
    findings = {finding.subject: finding for finding in diagnose(tmp_path)}
    assert {"python", "torch", "av", "ffmpeg libraries", "device", "feature cache", *VARIANTS} <= set(
        findings
    )
    assert findings["torch"].detail == importlib.metadata.version("torch")
    assert findings["small_16k"].status == "missing"
    assert findings["small_16k"].advice == "selva models download small_16k"
    assert all(finding.advice for finding in findings.values() if finding.status != "ok")
    assert not list(tmp_path.iterdir())


def test_a_file_missing_from_the_package_is_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "BUNDLED", tmp_path)
    findings = {finding.subject: finding for finding in diagnose(tmp_path)}
    assert findings["demo_16k"].status == "missing"
    assert findings["demo_16k"].advice == REINSTALL


def test_a_missing_package_is_a_finding_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("torch", "no-such-package"))
    findings = {finding.subject: finding for finding in diagnose()}
    assert findings["torch"].status == "ok"
    missing = findings["no-such-package"]
    assert (missing.status, missing.advice) == ("missing", "pip install no-such-package")
