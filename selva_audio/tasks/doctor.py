"""What is installed, what is missing, what to do."""

import importlib.metadata
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..configs import VARIANTS
from ..features import default_cache_dir
from ..media.container import media_library_versions
from ..runtime import describe_devices
from .models import fetch_command, where

_PACKAGES = ("torch", "transformers", "av", "soundfile", "soxr", "pydantic", "cyclopts", "safetensors")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``advice`` says what to do unless all is well."""

    subject: str
    status: Literal["ok", "missing", "warning"]
    detail: str
    advice: str = ""


def diagnose(models_dir: Path | None = None) -> list[Finding]:
    """Look at Python, packages, devices, folders and weights; changes nothing."""
    findings = [Finding("python", "ok", f"{platform.python_version()} at {sys.prefix}")]
    findings += [_package(name) for name in _PACKAGES]
    findings.append(Finding("ffmpeg libraries", "ok", media_library_versions()))
    findings += [Finding("device", "ok", line) for line in describe_devices()]
    findings.append(Finding("feature cache", "ok", str(default_cache_dir())))
    for variant in VARIANTS:
        missing = [item.name for item in where(variant, models_dir=models_dir) if item.found is None]
        if missing:
            findings.append(Finding(variant, "missing", f"no {', '.join(missing)}", fetch_command(variant)))
        else:
            findings.append(Finding(variant, "ok", "all weight files found"))
    return findings


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", f"pip install {name}")
