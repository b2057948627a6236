"""``selva models``: list, download, verify, where."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from .console import print_json, progress_bar, say, show

ModelsDir = Annotated[Path | None, Parameter(help="Folder with the weight files; looked at first.")]
Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]

models = App(name="models", help="Weight files: what each variant needs, what is here, fetch and check.")


@models.command(name="list")
def list_variants(*, models_dir: ModelsDir = None, json: Json = False) -> int:
    """Show every variant with its files, sizes and licences, and what of them is here."""
    from ..tasks.models import list_models

    variants = list_models(models_dir=models_dir)
    if json:
        print_json(_plain(variants))
        return 0
    for variant in variants:
        state = "complete" if variant.complete else f"get it with: {variant.command}"
        show(f"{variant.variant} ({variant.family}, {variant.sample_rate} Hz): {state}")
        for file in variant.files:
            mark = "+" if file.path else "-"
            show(f"  {mark} {file.name}: {file.role}, {file.size}; licence: {file.licence}")
    show("Licences as their publishers report them; not legal advice.")
    return 0


@models.command
def download(
    variant: Annotated[str, Parameter(help="Variant whose files are fetched.")],
    /,
    *,
    models_dir: ModelsDir = None,
    convert: Annotated[
        bool, Parameter(negative=(), help="Also write each pickled file as safetensors beside it.")
    ] = False,
    json: Json = False,
) -> int:
    """Fetch the files of a variant that are not here yet; broken downloads are resumed."""
    from ..tasks.models import download_models

    with progress_bar("Downloading") as on_progress:
        files = download_models(variant, models_dir=models_dir, convert=convert, on_progress=on_progress)
    for file in files:
        say(f"{'Downloaded' if file.downloaded else 'Here'}: {file.path} (licence: {file.licence})")
    say("Licences as their publishers report them; not legal advice.")
    if json:
        print_json(_plain(files))
    return 0


@models.command
def verify(
    variant: Annotated[
        str | None, Parameter(help="Variant to check; default: every file that is here.")
    ] = None,
    /,
    *,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Hash the weight files anew and compare with the published, or first recorded, hashes."""
    from ..tasks.models import verify_models

    with progress_bar("Checking") as on_progress:
        files = verify_models(variant, models_dir=models_dir, on_progress=on_progress)
    if json:
        print_json(_plain(files))
    else:
        for file in files:
            show(f"{file.status:9} {file.name}: {file.problem or file.path}")
    if not files:
        say("No weight files are here. `selva models where` shows the places looked at.")
    return 1 if any(file.problem for file in files) else 0


@models.command
def where(
    variant: Annotated[str | None, Parameter(help="Variant; default: all.")] = None,
    /,
    *,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Show the places in which files are looked for, in order."""
    from ..tasks.models import where as places

    found = places(variant, models_dir=models_dir)
    if json:
        print_json(_plain(found))
        return 0
    for file in found:
        show(f"{file.name}: {file.found or 'not found'}")
        for place in file.places:
            show(f"    {place}")
    return 0


def _plain(records: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(record) for record in records]
