"""Every bundle of the hostile corpus is refused with its line, and none does more than that."""

import re
import resource

import pytest
from hostile_bundles import LINES, write_hostile_bundle

from serving import ManifestError, Predictor, verify_bundle
from serving.errors import printable

# Loading checks only the files that it needs, not that there are no others.
LOADABLE = {
    "a linked graph",
    "a link out of the folder",
    "a folder in itself",
    "a pipe",
    "a pipe for a file",
    "a file of a terabyte",
    "a name that clears the screen",
    "a name with a null",
    "golden samples of absurd shape",
    "golden samples of a thousand axes",
    "golden samples that are not numbers",
}


@pytest.mark.parametrize("name", LINES)
def test_a_hostile_bundle_gets_its_line(name, row_bundle, tmp_path):
    version = write_hostile_bundle(name, row_bundle, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checks = verify_bundle(version.parent)
    failed = [printable(check.detail) for check in checks if not check.passed]
    assert any(re.search(LINES[name], line) for line in failed), failed
    assert all(line.isprintable() and len(line) < 600 for line in failed), failed
    if name not in LOADABLE:
        with pytest.raises(ManifestError):
            Predictor.load(version)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000, f"{grown / 1000:.0f} MB"
