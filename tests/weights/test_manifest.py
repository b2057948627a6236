from pathlib import Path

import pytest

from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError
from selva_audio.weights.manifest import FILES, download_command, expected_size, get_file, variant_files

PUBLISHED_MD5 = {
    "video_enc_sup_5.pth": "ff09a6dc36148536ee4db97eba081d05",
    "generator_small_16k_sup_5.pth": "1cb0f0deec52de37f67b1fd9965337d0",
    "v1-16.pth": "69f56803f59a549a1a507c93859fd4d7",
    "best_netG.pt": "eeaf372a38a9c31c362120aba2dde292",
    "v1-44.pth": "fab020275fa44c6589820ce025191600",
    "synchformer_state_dict.pth": "5b2f5594b0730f70e41e549b7c94390c",
    "mmaudio_small_16k.pth": "af93cde404179f58e3919ac085b8033b",
    "mmaudio_small_44k.pth": "babd74c884783d13701ea2820a5f5b6d",
    "mmaudio_medium_44k.pth": "5a56b6665e45a1e65ada534defa903d0",
    "mmaudio_large_44k.pth": "fed96c325a6785b85ce75ae1aafd2673",
    "mmaudio_large_44k_v2.pth": "01ad4464f049b2d7efdaa4c1a59b8dfe",
}


def test_known_hashes_are_exactly_the_published_ones():
    assert {name: entry.md5 for name, entry in FILES.items() if entry.md5} == PUBLISHED_MD5


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_file_of_every_variant_is_in_the_table_with_a_licence(variant):
    files = variant_files(variant)
    assert set(files) == set(VARIANTS[variant].files)
    assert all(entry.licence and entry.role for entry in files.values())


@pytest.mark.parametrize("size", ["small_44k", "medium_44k", "large_44k"])
def test_both_spellings_of_a_44k_generator_are_tried_on_the_hub_and_on_disk(size):
    entry = get_file(f"generator_{size}_sup_5.pth")
    other = f"generator_{size}hz_sup_5.pth"
    assert entry.paths == (f"weights/{entry.name}", f"weights/{other}")
    assert entry.local_names[:2] == (entry.name, other)


def test_shared_files_have_the_mmaudio_release_as_second_source():
    names = ("v1-16.pth", "v1-44.pth", "best_netG.pt", "synchformer_state_dict.pth")
    base = "https://github.com/hkchengrex/MMAudio/releases/download/v0.1"
    assert all(FILES[name].urls == (f"{base}/{name}",) for name in names)


def test_demo_files_ship_with_the_package():
    assert all(entry.is_bundled for entry in variant_files("demo_16k").values())
    assert download_command(Path(VARIANTS["demo_16k"].files["vae"])) is None


def test_unknown_file_name_gives_the_nearest_one():
    with pytest.raises(InputError, match=r"Did you mean 'v1-16\.pth'"):
        get_file("v1-16k.pth")


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("models/ext/v1-44.pth", "selva models download small_44k"),
        ("models/generator_large_44khz_sup_5.pth", "selva models download large_44k"),
        ("a/DFN5B-CLIP-ViT-H-14-384/model.safetensors", "selva models download small_16k"),
        ("hub/models--google--flan-t5-base/snapshots/0/model.safetensors", "selva models download small_16k"),
        ("somewhere/model.safetensors", None),
        ("adapters/adapter_final.pt", None),
    ],
)
def test_command_that_fetches_a_file_again_follows_from_its_path(path, command):
    assert download_command(Path(path)) == command


def test_expected_size_is_known_for_table_files_only():
    assert expected_size(Path("ext/v1-16.pth")) == "687 MB"
    assert expected_size(Path("adapter_final.pt")) is None
