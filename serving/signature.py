"""Signs a version with a private key and checks the signature with the public key.

Uses OpenSSF's model-signing, which the extra `sign` installs. The signature covers every file of
the version except SHA256SUMS, which lists the signature itself.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from model_signing import hashing, signing, verifying

from .bundle import CHECKSUMS, SIGNATURE
from .errors import InputError, ManifestError, cannot_read, one_line

# The curves that model-signing supports.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_KEY = "an elliptic-curve key in PEM, such as P-256"


def read_signer(key: Path) -> Callable[[Path], None]:
    """Return a function that signs a version's folder.

    Args:
        key: file of an elliptic-curve private key, PEM without a password, as
            `openssl ecparam -name prime256v1 -genkey -noout` writes it.

    Raises:
        InputError: the file does not hold such a key.
    """
    try:
        found = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(cannot_read(key, error, _KEY)) from None
    if not isinstance(found, EllipticCurvePrivateKey) or found.curve.name not in _CURVES:
        raise InputError(f"A private key must be {_KEY}. Received: {key}, of another kind.")

    def sign(folder: Path) -> None:
        folder = folder.resolve()
        path = folder / SIGNATURE
        config = signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashing(folder)).sign(folder, path)

    return sign


def read_verifier(key: Path) -> Callable[[Path], str]:
    """Return a function that checks the signature of a version's folder and describes it.

    The function raises ManifestError if there is no signature, or if it was made with another key
    or over other files.

    Args:
        key: file of an elliptic-curve public key, PEM.

    Raises:
        InputError: the file does not hold such a key.
    """
    try:
        found = load_pem_public_key(key.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(cannot_read(key, error, _KEY)) from None
    if not isinstance(found, EllipticCurvePublicKey) or found.curve.name not in _CURVES:
        raise InputError(f"A public key must be {_KEY}. Received: {key}, of another kind.")

    def check(folder: Path) -> str:
        folder = folder.resolve()  # model-signing resolves relative paths inside the model
        path = folder / SIGNATURE
        if not path.is_file():
            raise ManifestError(f"The version must be signed. Received: no file {path}.")
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.set_hashing_config(_hashing(folder)).verify(folder, path)
        except Exception as error:  # model-signing and its libraries raise many types
            raise ManifestError(
                f"{SIGNATURE} must be made with the key of {key} over these files: "
                f"{one_line(error):.160}."
            ) from None
        return f"signed with the key of {key}"

    return check


def _hashing(folder: Path) -> hashing.Config:
    ignored = [folder / name for name in (CHECKSUMS, SIGNATURE)]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)
