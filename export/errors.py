"""The errors of `export`, each one line: the rule, the value received, the mend.

ExportError (also a ValueError)    nothing was published; earlier versions are untouched
└── ProofError                     the artifacts do not compute one function
"""


class ExportError(ValueError):
    """A model cannot be exported. Nothing was published; earlier versions are untouched."""


class ProofError(ExportError):
    """The artifacts do not compute one function."""
