"""Addresses of servers, as they may be shown."""

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def without_credentials(text: str) -> str:
    """Return a text whose addresses have neither users nor passwords.

    Examples:
        >>> without_credentials("https://maya:secret@mlflow.example.com/x refuses.")
        'https://mlflow.example.com/x refuses.'
    """
    return _CREDENTIALS.sub("", text)
