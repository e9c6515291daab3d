"""The certificate and the private key with which a server speaks TLS."""

import ssl
from pathlib import Path

from ..errors import InputError, cannot_read

# What precedes a key on an elliptic curve in a certificate, and what follows for the curves that
# rustls, Granian's library, knows. With others its processes end. Source: RFC 5480.
_ELLIPTIC = bytes.fromhex("06072a8648ce3d0201")
_CURVES = tuple(map(bytes.fromhex, ("06082a8648ce3d030107", "06052b81040022")))
_END = "-----END CERTIFICATE-----"


def check_certificate(certificate: Path, key: Path) -> None:
    """Check the files of a certificate and of its private key, both PEM.

    Raises:
        InputError: a file cannot be read or holds something else, or the key has a password, is of
            another kind than RSA, P-256, P-384 and Ed25519, or belongs to another certificate.
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
    text = certificate.read_text("latin-1")
    first = text[text.index("-----BEGIN CERTIFICATE") : text.index(_END) + len(_END)]
    curve = ssl.PEM_cert_to_DER_cert(first).partition(_ELLIPTIC)[2]
    if curve and not curve.startswith(_CURVES):
        raise InputError(
            "The key of a certificate must be RSA, P-256, P-384 or Ed25519. "
            f"Received: {certificate}, with another curve."
        )


def _reason(error: Exception) -> str:
    """Return what OpenSSL says of a pair that it refuses."""
    text = getattr(error, "reason", None)
    known = {"KEY_VALUES_MISMATCH": ", which do not belong together"}
    return known.get(text or "", "")
