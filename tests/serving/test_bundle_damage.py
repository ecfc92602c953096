"""A bundle that is damaged in any way is refused by the name of the file, or answers as before; nothing else."""

import json
import os
import pathlib

import numpy as np
import pytest
from bundle_cases import EVERYBODY, copy, save, sign
from hypothesis import given, settings
from hypothesis import strategies as st
from json_cases import of_another_type

from retrieval import index as index_lib
from retrieval.common.manifest import MOST_BYTES, digest
from retrieval.serving import bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture(scope="module")
def answer(whole):
    return bundle.load(whole).recommend(EVERYBODY, 3)


@pytest.fixture
def folder(whole, tmp_path):
    return copy(whole, tmp_path / "bundle")


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def snapshot(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def check_damaged(folder, name, answer):
    """Checks that a damage of this file is told by its name, or does not matter."""
    before = snapshot(folder.parent)
    try:
        found = bundle.load(folder).recommend(EVERYBODY, 3)
    except ValueError as error:
        assert name in str(error), error
    else:
        assert np.array_equal(found.ids, answer.ids) and np.array_equal(found.scores, answer.scores)
        assert name == bundle.MANIFEST  # as a blank more between its words
    assert snapshot(folder.parent) == before


def damage(content: bytes, how: str, place: int, bit: int) -> bytes:
    at = place % max(len(content), 1)
    if how == "flip":
        return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
    return content[:at] if how == "truncate" else content[:at] + b"\0" + content[at:]


def check_a_damage(whole, scratch, answer, name, how, place, bit):
    names = files_of(whole)
    name = names[name % len(names)]
    folder = copy(whole, scratch / "bundle")
    (folder / name).write_bytes(damage((folder / name).read_bytes(), how, place, bit))
    check_damaged(folder, name, answer)


DAMAGES = {
    "name": st.integers(0, 10**6),
    "how": st.sampled_from(["flip", "truncate", "insert"]),
    "place": st.integers(0, 10**7),
    "bit": st.integers(0, 7),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**DAMAGES)
def test_any_damage_is_named(whole, answer, tmp_path_factory, name, how, place, bit):
    check_a_damage(whole, tmp_path_factory.getbasetemp() / "damaged", answer, name, how, place, bit)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(**DAMAGES)
def test_any_of_many_damages_is_named(whole, answer, tmp_path_factory, name, how, place, bit):
    check_a_damage(whole, tmp_path_factory.getbasetemp() / "many", answer, name, how, place, bit)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(place=st.integers(0, 10**7), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_manifest_changes_no_answer(whole, answer, tmp_path_factory, place, bit):
    folder = copy(whole, tmp_path_factory.getbasetemp() / "manifest" / "bundle")
    path = folder / bundle.MANIFEST
    path.write_bytes(damage(path.read_bytes(), "flip", place, bit))
    check_damaged(folder, bundle.MANIFEST if "bundle format" not in _error(folder) else str(folder), answer)


def _error(folder):
    try:
        bundle.load(folder)
    except ValueError as error:
        return str(error)
    return ""


def test_swapped_files_are_named(whole, folder, answer):
    names = [name for name in files_of(whole) if name != bundle.MANIFEST]
    for first, second in zip(names, names[1:], strict=False):
        copy(whole, folder)
        (folder / first).rename(folder / "aside")
        (folder / second).rename(folder / first)
        (folder / "aside").rename(folder / second)
        with pytest.raises(ValueError, match=f"({first}|{second}) has changed since it was written"):
            bundle.load(folder)


def test_files_of_another_bundle_are_named(whole, folder, tmp_path):
    other = save(tmp_path / "other", scale=2.0)
    for name in ("golden.json", "candidate_embeddings.npy", "index/index.json"):
        copy(whole, folder)
        (folder / name).write_bytes((other / name).read_bytes())
        with pytest.raises(ValueError, match=f"{name} has changed since it was written"):
            bundle.load(folder)


def test_each_changed_file_is_named_by_verification(folder):
    names = ["corpus.json", "seen_rows.npy"]
    for name in names:
        (folder / name).write_bytes(damage((folder / name).read_bytes(), "flip", 140, 0))
    problems = [problem for finding in bundle.inspect(folder) for problem in finding.problems]
    assert all(any(name in problem for problem in problems) for name in names)


def test_each_missing_file_is_named(whole, folder):
    for name in files_of(whole):
        copy(whole, folder)
        (folder / name).unlink()
        with pytest.raises(
            ValueError, match="it has no manifest.json" if name == bundle.MANIFEST else f"lacks '{name}'"
        ):
            bundle.load(folder)


def test_a_file_more_is_named_unless_it_is_hidden_or_an_export(folder):
    (folder / ".DS_Store").write_text("of a file manager")
    (folder / "exports/saved_model").mkdir(parents=True)
    (folder / "exports/saved_model/saved_model.pb").write_text("of another program")
    bundle.load(folder)
    assert not any(finding.problems for finding in bundle.inspect(folder))
    (folder / "index/more").write_text("")
    with pytest.raises(ValueError, match="index/more is not listed in manifest.json; remove it"):
        bundle.load(folder)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "index/../../outside", ".", "", "a\x00b", "a/b/c", "index/"]
)
def test_no_name_leads_out_of_the_folder(folder, name):
    (folder.parent / "outside").write_text("not yours")
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"size": 9, "sha256": "0" * 64}
    resign(path, manifest)
    with pytest.raises(ValueError, match="manifest.json is damaged.*is no name of a file in it"):
        bundle.load(folder)


def resign(path, manifest):
    manifest.pop("sha256", None)
    path.write_text(json.dumps({"sha256": digest(manifest), **manifest}))


@pytest.mark.parametrize("name", ["corpus.json", "index/index.json"])
def test_a_link_out_of_the_folder_is_refused(folder, name):
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name} is not a plain file in this folder"):
        bundle.load(folder)


def test_a_linked_folder_in_the_bundle_is_refused_and_one_of_the_bundle_is_not(folder):
    (folder.parent / "link").symlink_to(folder)
    bundle.load(folder.parent / "link")
    (folder / "index").rename(folder.parent / "outside")
    (folder / "index").symlink_to(folder.parent / "outside")
    with pytest.raises(ValueError, match="index/index.* is not a plain file"):
        bundle.load(folder)


def test_a_pipe_is_refused_and_does_not_hang(folder):
    (folder / "corpus.json").unlink()
    os.mkfifo(folder / "corpus.json")
    with pytest.raises(ValueError, match="corpus.json is not a plain file"):
        bundle.load(folder)


@pytest.mark.parametrize("version", [0, 3, 5, "4", None, [4]])
def test_another_format_version_is_told(folder, version):
    path = folder / bundle.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(ValueError, match="has bundle format .*, this version reads 4"):
        bundle.load(folder)


BOMB = b"[" * 200_000


@pytest.mark.parametrize("content", [BOMB, b'{"a":' * 100_000, b"", b"null", b"[]", b"\xff\xfe", b"1" * 10_000, b"{}"])
def test_a_manifest_that_is_none_is_refused(folder, content):
    (folder / bundle.MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        bundle.load(folder)


def test_a_huge_manifest_is_not_read(folder):
    with (folder / bundle.MANIFEST).open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match="manifest.json is damaged .*16777217 bytes"):
        bundle.load(folder)


def test_huge_sizes_in_the_manifest_are_refused(folder):
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    for size in (2**80, -1, 1.5, "1", None):
        manifest["files"]["corpus.json"]["size"] = size
        resign(path, manifest)
        with pytest.raises(ValueError, match="corpus.json"):
            bundle.load(folder)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_manifest_whose_hash_is_right_and_whose_types_are_wrong_is_named(whole, answer, tmp_path_factory, data):
    folder = copy(whole, tmp_path_factory.getbasetemp() / "wrong_types")
    path = folder / bundle.MANIFEST
    resign(path, data.draw(of_another_type(json.loads(path.read_text()))))
    try:
        found = bundle.load(folder)
        problems = [problem for finding in bundle.inspect(folder) for problem in finding.problems]
    except ValueError as error:
        assert str(folder) in str(error)
    else:
        assert np.array_equal(found.recommend(EVERYBODY, 3).ids, answer.ids)
        assert all(str(folder) in problem for problem in problems)


@pytest.mark.parametrize("fact", ["similarity_dimension", "versions", "figures"])
def test_a_fact_of_another_type_in_a_signed_manifest_is_named(folder, fact):
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    for wrong in ([], "4", 1.5, True):
        resign(path, manifest | {fact: wrong})
        with pytest.raises(ValueError, match=f"manifest.json is damaged .*{fact} must be an"):
            bundle.load(folder)


@pytest.mark.parametrize("content", [BOMB, b"null", b"{}", b"[1]", b'{"ids": 3}'])
def test_signed_nonsense_in_json_is_named(whole, folder, content):
    for name in (name for name in files_of(whole) if name.endswith(".json") and name != bundle.MANIFEST):
        copy(whole, folder)
        (folder / name).write_bytes(content)
        sign(folder)
        problems = [problem for finding in bundle.inspect(folder) for problem in finding.problems]
        assert len(problems) == 1 and (name in problems[0] or "index" in name), (name, problems)
        if name != "golden.json":
            with pytest.raises(ValueError):
                bundle.load(folder)


def headed(text: str) -> bytes:
    header = text.encode("latin1").ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (4, 4)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (8,)}",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (16,)}",
    "{'descr': '<f4', 'fortran_order': False}",
    "(" * 110,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4 4), }",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (9999999999999999999, 9999999999999999999), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 60 + ",), }",
    "{'descr': '<b2', 'fortran_order': False, 'shape': (16,), }",
    "__import__('os').abort()",
]


@pytest.mark.parametrize("content", [*map(headed, HEADERS), b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{}"])
def test_signed_nonsense_in_arrays_is_named(whole, folder, content):
    for name in (name for name in files_of(whole) if name.endswith(".npy")):
        copy(whole, folder)
        (folder / name).write_bytes(content)
        sign(folder)
        with pytest.raises(ValueError, match=name):
            bundle.load(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("candidate_embeddings.npy", lambda array: array[:-1]),
        ("candidate_embeddings.npy", lambda array: array[:, :-1]),
        ("candidate_embeddings.npy", lambda array: array.astype(np.float64)),
        ("seen_offsets.npy", lambda array: array[::-1]),
        ("seen_offsets.npy", lambda array: array[:-2]),
        ("seen_rows.npy", lambda array: array + 5),
        ("query_feature_0_values.npy", lambda array: array[:-1]),
        ("query_feature_0_values.npy", lambda array: array[:, :-1]),
        ("candidate_feature_0_rows.npy", lambda array: array + 1000),
        ("candidate_feature_0_weights.npy", lambda array: array[:, :1]),
    ],
)
def test_signed_arrays_that_do_not_go_with_the_rest_are_refused(folder, name, change):
    path = folder / name
    np.save(path, np.ascontiguousarray(change(np.load(path))))
    sign(folder)
    with pytest.raises(ValueError, match=str(pathlib.Path(folder))):
        bundle.load(folder)


def test_a_signed_program_of_another_kind_is_refused(whole, folder):
    (folder / "query_tower.stablehlo").write_bytes((folder / "candidate_tower.stablehlo").read_bytes())
    sign(folder)
    with pytest.raises(ValueError, match="query_tower.stablehlo does not read the columns"):
        bundle.load(folder)
    (folder / "query_tower.stablehlo").write_bytes(b"no program")
    sign(folder)
    with pytest.raises(ValueError, match="query_tower.stablehlo: not a StableHLO program"):
        bundle.load(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("query_context.json", lambda content: content.update(appeared=7)),
        ("query_context.json", lambda content: content.update(length="x")),
        ("candidate_features.json", lambda content: content["features"][0].update(name=1.5)),
    ],
)
def test_signed_text_with_values_of_other_types_is_refused(folder, name, change):
    change(content := json.loads((folder / name).read_text()))
    (folder / name).write_text(json.dumps(content))
    sign(folder)
    with pytest.raises(ValueError, match=name):
        bundle.load(folder)


def test_what_is_signed_and_wrong_is_found_by_verification(whole, folder, tmp_path):
    def problems():
        return [problem for finding in bundle.inspect(folder) for problem in finding.problems]

    assert problems() == []
    path = folder / "candidate_embeddings.npy"
    embeddings = np.load(path)
    embeddings[2] += 0.01
    np.save(path, embeddings)
    sign(folder)
    (problem,) = problems()
    assert "bundle/index is over other vectors than those of candidate_embeddings.npy" in problem
    other, found = save(tmp_path / "other", scale=2.0), []
    for path in sorted(other.glob("parameter_*.npy")):
        copy(whole, folder)
        if path.read_bytes() != (folder / path.name).read_bytes():
            (folder / path.name).write_bytes(path.read_bytes())
            sign(folder)
            found.append(problems())
    of_candidates, of_queries = [], []
    for named in found:
        (of_candidates if "candidate_embeddings.npy" in named[0] else of_queries).append(named)
    assert of_candidates and of_queries
    for (problem,) in of_candidates:
        assert "the embedding of candidate " in problem and " is not what candidate_tower.stablehlo makes" in problem
    for named in of_queries:
        assert all("golden.json: golden queries" in problem for problem in named)


def test_a_signed_parameter_of_another_shape_or_type_is_refused(folder):
    path = min(folder.glob("parameter_*.npy"))
    for change in (
        lambda array: array[:-1],
        lambda array: array.astype(np.float64),
        lambda array: array.view(np.int32),
    ):
        kept = path.read_bytes()
        np.save(path, change(np.load(path)))
        sign(folder)
        with pytest.raises(
            ValueError,
            match=f"tower.stablehlo: {path.stem} is .*, the program reads float32",
        ):
            bundle.load(folder)
        path.write_bytes(kept)


def test_an_index_that_is_saved_into_the_bundle_meanwhile_is_not_taken(folder, tmp_path, monkeypatch):
    other, load = save(tmp_path / "other", scale=2.0), index_lib.load

    def load_another(path):
        load(other / "index").save(folder / "index")
        return load(path)

    monkeypatch.setattr(index_lib, "load", load_another)
    with pytest.raises(ValueError, match="index/index.* (has changed since it was written|cannot be read)"):
        bundle.load(folder)


def test_an_interrupt_ends_a_load_at_once_whatever_is_damaged(folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval.serving.bundle.reading._lists", interrupted)
    np.save(folder / "seen_rows.npy", np.load(folder / "seen_rows.npy")[::-1])
    with pytest.raises(KeyboardInterrupt):
        bundle.load(folder)
