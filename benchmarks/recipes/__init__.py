"""Settings that were chosen on validation splits, as files that `hornbill train --config` takes."""

from pathlib import Path

RECIPES = Path(__file__).parent
