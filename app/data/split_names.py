"""Names of folders and files that tell the split of a source."""

import re

# Names of the subfolders that hold the splits of a source.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


def split_of(name: str) -> str:
    """Return the split that the name of a file or folder begins with; empty for none.

    Examples:
        >>> split_of("train-00000-of-00002.parquet"), split_of("val"), split_of("trains.csv")
        ('train', 'validation', '')
    """
    word = re.split(r"[^a-z]", name.lower())[0]
    return next((split for split, names in SPLITS.items() if word in names), "")
