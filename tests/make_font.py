"""Makes the font of Chinese figures: the characters of `vocabulary.toml` from Noto Sans SC.

    python -m tests.make_font NotoSansCJK-Regular.ttc

Noto fonts have the SIL Open Font License, see `app/studies/fonts/OFL.txt`.
"""

import sys

from fontTools import subset
from fontTools.ttLib import TTCollection

from app.studies.chinese_figures import FAMILY, FONT
from app.studies.vocabulary import chinese_words

_FULL_NAME = "Noto Sans CJK SC"


def characters():
    """Return the characters that figures need besides those of other fonts."""
    return {letter for word in chinese_words().values() for letter in word if ord(letter) > 0x2FFF}


def main():
    (path,) = sys.argv[1:]
    fonts = TTCollection(path).fonts
    font = next(font for font in fonts if font["name"].getDebugName(4) == _FULL_NAME)
    options = subset.Options(layout_features=[], name_IDs=[0, 1, 2, 4, 5, 6, 13, 14], hinting=False)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=map(ord, characters()))
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in {1, 4, 6}:
            record.string = FAMILY.replace(" ", "") if record.nameID == 6 else FAMILY
    FONT.parent.mkdir(exist_ok=True)
    font.save(FONT)


if __name__ == "__main__":
    main()
