"""Data sets to train on: clips of features and sound, what is known of them, and what is wrong with them."""

from .checks import check_entries, check_sound
from .read import read_dataset
from .record import FAULTS, INDEX, REMARKS, Dataset, Entry, Origin, as_json, select, write_dataset
from .split import with_splits

__all__ = [
    "FAULTS",
    "INDEX",
    "REMARKS",
    "Dataset",
    "Entry",
    "Origin",
    "as_json",
    "check_entries",
    "check_sound",
    "read_dataset",
    "select",
    "with_splits",
    "write_dataset",
]
