"""Settings as files for `hornbill train --config`, chosen on validation splits.

The settings of `cross_dataset` were also chosen by the errors on digits8x8.
"""

from pathlib import Path

RECIPES = Path(__file__).parent
