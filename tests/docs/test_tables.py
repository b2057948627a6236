"""The tables of the pages are what their sources say; `python docs/tables.py` writes them anew."""

import re
from pathlib import Path

import pytest

from selva_audio.configs import VARIANTS
from selva_audio.options import FeatureOptions, GenerateOptions, LoadOptions, OutputOptions
from selva_audio.weights.manifest import FILES, variant_files

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# SPEC 1.3, in millions.
PARAMETERS = {
    "small_16k": "157.28",
    "small_44k": "157.41",
    "medium_44k": "621.81",
    "large_44k": "1030.00",
    "large_44k_v2": "1030.58",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_equal_their_sources(page, tables):
    text = page.read_text(encoding="utf-8")
    assert tables.updated(text) == text, "run `python docs/tables.py`"


def test_every_table_is_on_a_page(tables):
    marked = {
        name
        for page in PAGES
        for name in re.findall(r"<!-- table: (.+?) -->", page.read_text(encoding="utf-8"))
    }
    assert marked == set(tables.TABLES)


def test_variants_table_has_every_variant_with_its_size_files_and_licences(tables):
    rows = {line.split("`")[1]: line for line in tables.variants_table().splitlines()[2:]}
    assert list(rows) == list(VARIANTS)
    for name, row in rows.items():
        assert all(file.licence in row for file in variant_files(name).values())
        if name != "demo_16k":
            assert f"| {PARAMETERS[name.removeprefix('mmaudio_')]} million |" in row
            assert all(f"`{file.name}`" in row for file in variant_files(name).values())
    assert "| 7.2 GB |" in rows["small_16k"]


def test_files_table_has_every_published_file_with_its_licence(tables):
    table = tables.files_table()
    published = [file for file in FILES.values() if not file.is_bundled]
    assert all(f"| `{file.name}` | {file.role} |" in table for file in published)
    assert all(f"| {file.licence} |" in table for file in published)


def test_every_setting_of_the_option_models_is_a_flag_in_the_tables(tables):
    flags = "\n".join(tables.TABLES[f"selva {command}"]() for command in ("generate", "features"))
    for model in (LoadOptions, FeatureOptions, GenerateOptions, OutputOptions):
        missing = [name for name in model.model_fields if f"`--{name.replace('_', '-')}`" not in flags]
        assert missing == [], model.__name__


def test_flags_are_shown_with_range_choices_and_default(tables):
    rows = tables.TABLES["selva generate"]().splitlines()
    assert "| `--steps` | whole number, 1 to 1000 | `25` | Solver steps. |" in rows
    assert any(row.startswith("| `--solver` | `euler`, `midpoint`, `heun` | `euler` |") for row in rows)
    assert any(row.startswith("| `--output`, `-o` | path | required |") for row in rows)
    assert any(row.startswith("| `--mask-clip`, `--no-mask-clip` |  | on |") for row in rows)
