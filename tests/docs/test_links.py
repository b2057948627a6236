"""What the pages point at exists: pages, headings, files, functions, names and messages."""

import ast
import re
from pathlib import Path

import pytest

import selva_audio
from selva_audio.weights.manifest import FILES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_inside_the_repository_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", _text(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_of_the_repository_named_on_a_page_exist(page):
    named = re.findall(r"(?:`|docs )((?:selva_audio|tests|docs|recipes|benchmarks)/[\w/.-]*)", _text(page))
    named += re.findall(r"`(Makefile|LICENSE|[\w.]+\.(?:toml|txt))`", _text(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_functions_named_in_the_architecture_are_where_it_says():
    named = re.findall(r"`(selva_audio/[\w/]+\.py)`:\s+`(\w+)`", _text(ROOT / "docs" / "architecture.md"))
    assert len(named) > 15
    missing = [
        f"{file}: {name}"
        for file, name in named
        if not re.search(rf"^(?:def|class) {name}\b", _text(ROOT / file), re.MULTILINE)
    ]
    assert missing == []


def test_the_tree_of_the_architecture_is_that_of_the_package():
    tree = re.search(r"selva_audio/\n(.*?)```", _text(ROOT / "docs" / "architecture.md"), re.DOTALL)[1]
    drawn = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    there = {
        path.name
        for path in (ROOT / "selva_audio").iterdir()
        if path.suffix == ".py" or any(path.rglob("*.py")) or path.name == "assets"
    }
    assert drawn == there


def test_every_public_name_is_on_the_python_page():
    page = _text(ROOT / "docs" / "python.md")
    assert [name for name in selva_audio.__all__ if f"`{name}`" not in page] == []


def test_messages_in_troubleshooting_are_said_by_the_program():
    said = "\n".join(_constants())
    quoted = re.findall(r"^> (.+)$", _text(ROOT / "docs" / "troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 15
    pieces = [piece.strip() for quote in quoted for piece in quote.split("...")]
    assert [piece for piece in pieces if piece not in said] == []


MADE_BY_TRAINING = ("adapter_", "embeddings_", "vocoder_")


def test_weight_files_named_on_the_pages_are_in_the_table():
    known = {name for file in FILES.values() for name in file.local_names}
    known |= {name for file in FILES.values() for names in file.parts for name in names}
    named = {name for page in PAGES for name in re.findall(r"`([\w.-]+\.(?:pth|pt))`", _text(page))}
    made = {name for name in named if name.startswith(MADE_BY_TRAINING)}
    assert named - known - made == set()


def test_environment_variables_on_the_pages_are_read_by_the_program():
    source = "\n".join(_constants())
    named = {
        name for page in PAGES for name in re.findall(r"`((?:HF|SELVA|TRANSFORMERS)_[A-Z_]+)", _text(page))
    }
    assert "SELVA_MODELS_DIR" in named
    assert {name for name in named if name not in source} == set()


def test_readme_and_changelog_tell_the_version():
    assert f"version = {{{selva_audio.__version__}}}" in _text(ROOT / "README.md")
    assert f"## [{selva_audio.__version__}]" in _text(ROOT / "CHANGELOG.md")


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _constants() -> list[str]:
    """Every piece of text in the package, with parts of a sentence joined as Python joins them."""
    found = []
    for file in sorted((ROOT / "selva_audio").rglob("*.py")):
        for node in ast.walk(ast.parse(_text(file))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
    return found
