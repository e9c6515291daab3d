"""The certificate and the private key with which a server speaks TLS."""

import ssl
from pathlib import Path

from ..errors import InputError, cannot_read


def check_certificate(certificate: Path, key: Path) -> None:
    """Check the files of a certificate and of its private key, both PEM.

    Raises:
        InputError: a file cannot be read or holds something else, the key has a password, or it
            belongs to another certificate.
    """
    for path in (certificate, key):
        try:
            path.read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(cannot_read(path, error)) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password of its own, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise InputError(
            "TLS needs a certificate in PEM and its private key, without a password. "
            f"Received: {certificate} and {key}{_reason(error)}."
        ) from None


def _reason(error: Exception) -> str:
    """Return what OpenSSL says of a pair that it refuses."""
    text = getattr(error, "reason", None)
    known = {"KEY_VALUES_MISMATCH": ", which do not belong together"}
    return known.get(text or "", "")
