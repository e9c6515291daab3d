"""The bearer tokens that requests may present, and their names."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ..errors import InputError, cannot_read
from .errors import RequestError

# Names of tokens by the SHA-256 of each: to find a digest takes no time that depends on the token.
Tokens = Mapping[bytes, str]
ONLY = "token"  # the name of the token of `--token`


def read_tokens(token: str | None, file: Path | None) -> Tokens | None:
    """Return the tokens that requests may present; None if they need none.

    Args:
        token: a token without a name.
        file: a text file with a name and a token in each line, separated by spaces. Lines that
            begin with `#` are comments. A name may occur again, as while a token is changed.

    Raises:
        InputError: the file cannot be read, holds no token, or has a line of another form.
    """
    if token is None and file is None:
        return None
    tokens = {} if token is None else {_digest(token): ONLY}
    return tokens if file is None else tokens | _read_file(file)


def identify(tokens: Tokens | None, authorization: str) -> str:
    """Return the name of the token that a request presents; an empty one if none is needed.

    Args:
        tokens: the tokens of `read_tokens`.
        authorization: value of the header `authorization`, or of gRPC's metadata of that name.

    Raises:
        RequestError: with the status 401, unless it is `Bearer` and one of the tokens.
    """
    if tokens is None:
        return ""
    scheme, _, presented = authorization.partition(" ")
    name = tokens.get(_digest(presented))
    if name is None or scheme.lower() != "bearer":  # RFC 9110: schemes ignore case
        raise RequestError(
            "Requests must present the token: Authorization: Bearer …. Received: "
            f"{'another one' if authorization else 'none'}.",
            401,
            {"www-authenticate": "Bearer"},
        )
    return name


def _digest(token: str) -> bytes:
    return sha256(token.strip().encode("utf-8", "surrogateescape")).digest()


def _read_file(path: Path) -> dict[bytes, str]:
    try:
        lines = path.read_text("ascii").splitlines()  # headers hold nothing else
    except (OSError, ValueError) as error:
        raise InputError(cannot_read(path, error, "ASCII text")) from None
    found: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:  # the words are secrets, so that no error shows them
            raise InputError(
                f"Each line of {path} must be a name and a token. "
                f"Received: {len(words)} words in line {number}."
            )
        name, token = words
        if found.setdefault(_digest(token), name) != name:
            raise InputError(
                f"Each token of {path} must have one name. "
                f"Received: that of line {number} has two, {found[_digest(token)]} and {name}."
            )
    if not found:
        raise InputError(f"{path} must hold a name and a token in a line. Received: no token.")
    return found
