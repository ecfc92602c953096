"""A signature over the manifest of a bundle, and so over all of its files: it tells who exported them.

Hashes detect damage; who changes a file on purpose writes its new hash too. With the public key of the exporter, and
only with it, a change of a bundle that has travelled is detected. Keys are Ed25519 (RFC 8032) in PEM files.
"""

from __future__ import annotations

import base64
import binascii
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retrieval.common.manifest import digest
from retrieval.common.storage import write_atomically
from retrieval.serving.bundle.layout import SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = b"retrieval bundle, SHA-256 of its manifest: "  # a signature of other data under the key is none of this


def sign(folder: pathlib.Path, manifest: Mapping[str, Any], key: Ed25519PrivateKey) -> None:
    """Writes the signature of a bundle beside its manifest."""
    signature = key.sign(_message(manifest))
    write_atomically(folder / SIGNATURE, base64.b64encode(signature).decode() + "\n")


def check_signature(folder: pathlib.Path, place: pathlib.Path, manifest: Mapping[str, Any], key_file: str) -> None:
    """Checks that the owner of a key has signed a bundle.

    Args:
      folder: the bundle, as errors name it.
      place: the path by which it is read.
      manifest: its manifest, whose own hash was compared.
      key_file: a PEM file of the public key.

    Raises:
      ValueError: the bundle is not signed, is signed by another key, or was changed since; or the file is no key.
      ImportError: the package cryptography is missing.
    """
    key = read_public_key(key_file)
    if not (place / SIGNATURE).is_file():
        raise ValueError(f"{folder} is not signed: it has no {SIGNATURE}; export it with --sign_key")
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode((place / SIGNATURE).read_bytes(), validate=False), _message(manifest))
    except (InvalidSignature, binascii.Error):
        raise ValueError(
            f"{folder / SIGNATURE} is no signature of this bundle by {key_file}: it was signed with another key, or "
            "changed since; do not load it"
        ) from None


def read_private_key(path: str) -> Ed25519PrivateKey:
    """Reads the key that signs, from a PEM file without password.

    Raises:
      ValueError: the file is missing or holds no such key.
      ImportError: the package cryptography is missing.
    """
    serialization, ed25519 = _import_cryptography()
    content = _read(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError(f"{path} is encrypted; give a key without password, readable by its owner alone") from None
    except Exception:  # of many kinds, by the form of the file
        raise ValueError(f"{path} holds no private key in PEM; openssl genpkey -algorithm ed25519 makes one") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{path} holds another kind of key than Ed25519; openssl genpkey -algorithm ed25519 makes one")
    return key


def read_public_key(path: str) -> Ed25519PublicKey:
    """Reads the key that checks signatures, from a PEM file; errors as of `read_private_key`."""
    serialization, ed25519 = _import_cryptography()
    content = _read(path)
    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # of many kinds, by the form of the file
        kind = "the private key" if b"PRIVATE KEY" in content else "no public key in PEM"
        raise ValueError(f"{path} holds {kind}; openssl pkey -in PRIVATE -pubout writes the public one") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError(f"{path} holds another kind of key than Ed25519")
    return key


def _message(manifest: Mapping[str, Any]) -> bytes:
    return PURPOSE + digest(manifest).encode()


def _read(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a key: {error.strerror}") from None


def _import_cryptography() -> tuple[Any, Any]:
    """Imports the package of signatures, which few need.

    Raises:
      ImportError: it is missing; the message names the extra that installs it.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ImportError("signatures need the package cryptography: pip install -e '.[sign]'") from None
    return serialization, ed25519
