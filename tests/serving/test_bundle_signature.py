"""A signed bundle is loaded with the key of its exporter alone, and not after any change."""

import json
import subprocess
import sys

import pytest
from bundle_cases import copy, save
from bundle_cases import sign as list_files_anew
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from program_cases import started

from retrieval.serving import bundle
from retrieval.serving.bundle.layout import SIGNATURE


def write_keys(folder, name, key=None):
    """Writes a private key and its public key as PEM files."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    private, public = folder / f"{name}.pem", folder / f"{name}_public.pem"
    private.write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    (folder / f"{name}_secret.pem").write_bytes(
        key.private_bytes(*form, serialization.BestAvailableEncryption(b"password"))
    )
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(key.public_key().public_bytes(*form))
    return private, public


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A signed bundle, and the folder of the keys."""
    folder = tmp_path_factory.mktemp("signed")
    private, _ = write_keys(folder, "own")
    write_keys(folder, "other")
    write_keys(folder, "curve", ec.generate_private_key(ec.SECP256R1()))
    save(folder / "bundle", sign_key=str(private))
    return folder


@pytest.fixture
def case(signed, tmp_path):
    """A copy of the bundle, and the folder of the keys."""
    return copy(signed / "bundle", tmp_path / "bundle"), signed


def verify(folder, key):
    return started("verify", f"--bundle={folder}", f"--verify_key={key}")


def test_a_signed_bundle_is_loaded_with_the_public_key_of_its_exporter(case):
    folder, keys = case
    assert bundle.load(folder, verify_key=str(keys / "own_public.pem")).recommend("ann", 2).known
    assert bundle.load(folder).recommend("ann", 2).known  # without a key as before
    result = verify(folder, keys / "own_public.pem")
    assert result.returncode == 0 and "by the owner of" in result.stdout
    unchecked = started("verify", f"--bundle={folder}").stdout
    assert "not checked: --verify_key=FILE" in unchecked and "verdict: sound" in unchecked


def change_a_parameter_with_its_hash(folder):
    path = folder / "candidate_vocabulary.json"
    path.write_text(path.read_text().replace("10", "11"))
    list_files_anew(folder)


def change_a_fact_with_its_hash(folder):
    from retrieval.serving.bundle.manifest import write_manifest

    facts = {k: v for k, v in bundle.read_manifest(folder).items() if k not in ("files", "format_version", "sha256")}
    write_manifest(folder, facts | {"similarity_dimension": 1})


def change_signature(content):
    return lambda folder: (folder / SIGNATURE).write_text(content)


@pytest.mark.parametrize(
    "change, key, told",
    [
        (change_a_parameter_with_its_hash, "own", "changed since; do not load it"),
        (change_a_fact_with_its_hash, "own", "changed since; do not load it"),
        (lambda folder: None, "other", "signed with another key"),
        (lambda folder: (folder / SIGNATURE).unlink(), "own", "is not signed: it has no manifest.sig"),
        (change_signature(""), "own", "is no signature of this bundle"),
        (change_signature("no base64 at all?"), "own", "is no signature of this bundle"),
        (change_signature("AAAA\n"), "own", "is no signature of this bundle"),
    ],
)
def test_a_forged_bundle_is_refused(case, change, key, told):
    folder, keys = case
    change(folder)
    with pytest.raises(ValueError, match=told):
        bundle.load(folder, verify_key=str(keys / f"{key}_public.pem"))
    result = verify(folder, keys / f"{key}_public.pem")
    assert result.returncode == 1 and told in result.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    "file, told",
    [
        ("own.pem", "holds the private key; openssl pkey"),
        ("curve_public.pem", "holds another kind of key than Ed25519"),
        ("bundle/manifest.json", "holds no public key in PEM"),
        ("nowhere.pem", "cannot be read as a key: No such file"),
        ("", "cannot be read as a key"),
    ],
)
def test_a_file_that_is_no_public_key_is_named(signed, file, told):
    with pytest.raises(ValueError, match=told):
        bundle.load(signed / "bundle", verify_key=str(signed / file))


@pytest.mark.parametrize(
    "file, told",
    [
        ("own_public.pem", "holds no private key in PEM"),
        ("own_secret.pem", "is encrypted"),
        ("curve.pem", "holds another kind of key"),
        ("nowhere.pem", "cannot be read as a key"),
    ],
)
def test_a_file_that_is_no_private_key_is_named_before_anything_is_written(signed, tmp_path, file, told):
    with pytest.raises(ValueError, match=told):
        save(tmp_path / "bundle", sign_key=str(signed / file))
    assert not (tmp_path / "bundle").exists()


def test_the_extra_is_named_where_it_is_missing(signed):
    code = (
        "import sys; sys.modules['cryptography'] = None\nimport retrieval\n"
        f"retrieval.load({str(signed / 'bundle')!r})\n"
        f"retrieval.load({str(signed / 'bundle')!r}, verify_key={str(signed / 'own_public.pem')!r})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: signatures need the package cryptography: pip install -e '.[sign]'" in result.stderr
    assert result.stderr.count("Traceback") == 1


def test_a_signature_is_no_file_of_the_manifest(signed):
    assert SIGNATURE not in json.loads((signed / "bundle/manifest.json").read_text())["files"]
