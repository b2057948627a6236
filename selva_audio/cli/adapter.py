"""``selva adapter``: what LoRA adapters hold, and other files made of them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from .console import print_json, progress_bar, say, show
from .settings import Strengths

File = Annotated[Path, Parameter(help="Adapter: .pt, .safetensors or a PEFT folder.")]
Output = Annotated[
    Path,
    Parameter(name=("--output", "-o"), help=".pt, .safetensors, or a name without ending for a PEFT folder."),
]
Variant = Annotated[
    str | None,
    Parameter(help="Variant of the base, where it is needed; default: what the adapter tells."),
]
ModelsDir = Annotated[Path | None, Parameter(help="Folder with the weight files; looked at first.")]
Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]

adapter = App(name="adapter", help="LoRA adapters: what one holds, merge, convert, resize, extract, diff.")


@adapter.command
def info(
    file: File,
    /,
    *,
    variant: Annotated[
        str | None, Parameter(help="Variant whose weights the changes are compared with; default: none.")
    ] = None,
    intruders: Annotated[
        bool, Parameter(negative=(), help="Count intruder dimensions, with a control; needs --variant.")
    ] = False,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Tell rank, scale, targets and size of every change, and what else the file says."""
    from ..tasks.adapter import adapter_info

    with progress_bar("Reading") as on_progress:
        found = adapter_info(
            file, variant=variant, models_dir=models_dir, intruders=intruders, on_progress=on_progress
        )
    for note in found["notes"]:
        say(f"NOTE: {note}")
    if json:
        print_json(found)
        return 0
    show(
        f"{file}: {found['variant'] or 'unknown variant'}, {found['layers']} layers, rank {found['rank']}, "
        f"{found['parameters']:,} parameters, clip conditioning {found['clip_conditioning']}"
    )
    for row in found["modules"]:
        show(f"  {_row(row)}")
    if found["needs_base"] and variant is None:
        say("The file holds weights of its base; give --variant to see the size of its changes.")
    return 0


@adapter.command
def merge(
    *files: File,
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"), help="A .safetensors file; of --into adapter also .pt or a folder."
        ),
    ],
    adapter_strength: Strengths = (),
    into: Annotated[
        Literal["weights", "adapter"],
        Parameter(help="Write a whole generator, or one adapter that does what several do."),
    ] = "weights",
    rank: Annotated[
        int | None,
        Parameter(
            help="Largest rank of a layer, with --into adapter; default: the sum, which loses nothing."
        ),
    ] = None,
    variant: Variant = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Put adapters into the weights of their generator, or several into one adapter."""
    from ..tasks.adapter import merge_adapters

    with progress_bar("Merging") as on_progress:
        result = merge_adapters(
            files,
            output,
            strength=adapter_strength,
            into=into,
            rank=rank,
            variant=variant,
            models_dir=models_dir,
            on_progress=on_progress,
        )
    if into == "weights":
        say(f"{len(result['changed'])} weights of {result['variant']} changed.")
    else:
        kept = f"; each layer keeps {result['least_energy']:.4f} of its energy or more" if rank else ""
        say(f"{result['layers']} layers, rank {result['rank']}{kept}.")
    return _finish(result, json)


@adapter.command
def convert(
    file: File,
    /,
    *,
    output: Output,
    intruder_strength: Annotated[
        float | None,
        Parameter(help="Share of their strength that intruder dimensions keep; 0 takes them out."),
    ] = None,
    variant: Variant = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Write an adapter in another form, as plain LoRA."""
    from ..tasks.adapter import convert_adapter

    with progress_bar("Converting") as on_progress:
        result = convert_adapter(
            file,
            output,
            intruder_strength=intruder_strength,
            variant=variant,
            models_dir=models_dir,
            on_progress=on_progress,
        )
    for note in result["notes"]:
        say(f"NOTE: {note}")
    for row in result["reduced"]:
        say(
            f"{row['path']}: {row['intruders']} intruders; {row['relative_error']:.3g} of the change is lost "
            "at this rank."
        )
    say(f"{result['layers']} layers, rank {result['rank']}.")
    return _finish(result, json)


@adapter.command
def resize(
    file: File,
    /,
    *,
    output: Output,
    rank: Annotated[int | None, Parameter(help="Largest rank of a layer.")] = None,
    energy: Annotated[
        float | None,
        Parameter(
            help="Share of the energy that each layer keeps at least, while the rank allows, as 0.999."
        ),
    ] = None,
    variant: Variant = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Write the best approximation of an adapter at a lower rank; tells what is kept."""
    from ..tasks.adapter import resize_adapter

    with progress_bar("Resizing") as on_progress:
        result = resize_adapter(
            file,
            output,
            rank=rank,
            energy=energy,
            variant=variant,
            models_dir=models_dir,
            on_progress=on_progress,
        )
    say(
        f"Rank {result['rank_before']} to {result['rank']}; each layer keeps {result['least_energy']:.4f} of "
        "its energy or more."
    )
    return _finish(result, json)


@adapter.command
def extract(
    file: Annotated[Path, Parameter(help="A whole generator that was trained: .safetensors or .pth.")],
    /,
    *,
    variant: Annotated[str, Parameter(help="Variant that it was trained from.")],
    output: Output,
    rank: Annotated[int, Parameter(help="Largest rank of a layer.")] = 64,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Make an adapter of what a full fine-tuning changed; tells what it keeps."""
    from ..tasks.adapter import extract_adapter

    with progress_bar("Extracting") as on_progress:
        result = extract_adapter(
            file, output, variant=variant, rank=rank, models_dir=models_dir, on_progress=on_progress
        )
    if result["left_out"]:
        count, first = len(result["left_out"]), result["left_out"][0]
        say(f"NOTE: {count} changed tensors cannot be in an adapter and are left out, such as {first}.")
    say(
        f"{result['layers']} layers, rank {result['rank']}; each keeps {result['least_energy']:.4f} of its "
        "energy or more."
    )
    return _finish(result, json)


@adapter.command
def diff(
    first: File,
    second: File,
    /,
    *,
    variant: Variant = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> int:
    """Tell how unlike the changes of two adapters are, as a whole and in each layer."""
    from ..tasks.adapter import compare_adapters

    with progress_bar("Comparing") as on_progress:
        found = compare_adapters(
            first, second, variant=variant, models_dir=models_dir, on_progress=on_progress
        )
    if json:
        print_json(found)
        return 0
    show(f"norms {found['norms'][0]:.4g} and {found['norms'][1]:.4g}, {_likeness(found)}")
    for row in found["modules"]:
        norms = " and ".join(f"{norm:.3g}" for norm in row["norms"])
        show(f"  {row['path']}: norms {norms}, difference {row['difference']:.3g}{_cosine(row)}")
    return 0


def _likeness(found: dict[str, Any]) -> str:
    relative = found["relative_difference"]
    told = "the first changes nothing" if relative is None else f"difference {relative:.3g} of the first"
    return told + _cosine(found)


def _cosine(row: dict[str, Any]) -> str:
    return "" if row["cosine"] is None else f", cosine {row['cosine']:.4f}"


def _finish(result: dict[str, Any], json: bool) -> int:
    say(f"Done: {result['output']}")
    if json:
        print_json(result)
    return 0


def _row(row: dict[str, Any]) -> str:
    """One layer in one line; what is not known is left out."""
    parts = [f"{row['path']} {row['kind']} {'x'.join(map(str, row['shape']))}: rank {row['rank']}"]
    parts.append(f"scale {row['scale']:g}")
    for key in ("norm", "relative_norm", "stable_rank"):
        if row[key] is not None:
            parts.append(f"{key.replace('_', ' ')} {row[key]:.3g}")
    if "intruders" in row:
        counts, control = row["intruders"]["counts"], row["intruders"]["control"]
        shown = ", ".join(
            f"{number} under {limit:g} (random: {control[limit]})" for limit, number in counts.items()
        )
        parts.append(f"intruders {shown}")
    return ", ".join(parts)
