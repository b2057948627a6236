"""``selva doctor``: what is installed, what is missing, what to do."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .console import print_json, show


def doctor(
    *,
    models_dir: Annotated[Path | None, Parameter(help="Folder with the weight files.")] = None,
    json: Annotated[bool, Parameter(negative=(), help="Report as JSON on stdout.")] = False,
) -> int:
    """Tell what is installed, what is missing, and what to do about it."""
    from ..tasks.doctor import diagnose

    findings = diagnose(models_dir)
    if json:
        print_json([asdict(finding) for finding in findings])
        return 0
    for finding in findings:
        advice = f"  ->  {finding.advice}" if finding.advice else ""
        show(f"{finding.status:8} {finding.subject}: {finding.detail}{advice}")
    return 0
