"""The texts that stand for a missing value. It imports nothing."""

# Cells that stand for a missing value, in upper or lower case; an empty cell always does.
MISSING = ("?", "n/a", "na", "nan", "none", "null")
