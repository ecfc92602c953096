"""The files of a folder are verified when they are read, also after a kill in the middle of their replacement."""

import itertools
import json

import pytest
from forks import run_killed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_cases import of_another_type

from retrieval.common.listed_folder import ListedFolder
from retrieval.common.manifest import read_manifest, write_manifest


def listed(folder):
    return ListedFolder(folder, "manifest.json", lambda name: f"mend {name}")


def write(folder, **contents):
    listed(folder).write({f"{name}.json": [json.dumps(value).encode()] for name, value in contents.items()})


def values(folder):
    return [listed(folder).json(f"{name}.json") for name in "abc"]


@pytest.fixture
def folder(tmp_path):
    listed(tmp_path).begin({"seed": 3}, {"a.json": "1"})
    write(tmp_path, b=2)
    return tmp_path


def test_what_was_written_is_read_and_facts_stay(folder):
    write(folder, b=20, c=30)
    assert values(folder) == [1, 20, 30]
    assert listed(folder).facts()["seed"] == 3 and set(listed(folder).facts()) == {"seed", "files"}


@pytest.mark.parametrize("name", ["a.json", "b.json", "manifest.json"])
def test_any_change_of_a_file_is_refused_with_the_remedy(folder, name):
    before = values(folder)
    whole = (folder / name).read_bytes()
    for place, bit in itertools.product(range(len(whole)), range(8)):
        content = bytearray(whole)
        content[place] ^= 1 << bit
        (folder / name).write_bytes(content)
        try:
            found = values(folder)
        except ValueError as error:
            assert f"{folder / name} " in str(error) and f"mend {name}" in str(error)
        else:  # a blank of the JSON, or the name of the hash, which says no more than before
            assert name == "manifest.json" and found == before
    (folder / name).write_bytes(whole + b" ")
    if name != "manifest.json":
        with pytest.raises(ValueError, match=f"{name} has changed since it was written .*; mend {name}"):
            values(folder)


def test_a_file_that_is_missing_is_none(folder):
    (folder / "b.json").unlink()
    assert values(folder) == [1, None, None]
    write(folder, b=5)
    assert values(folder) == [1, 5, None]


@pytest.mark.parametrize("is_old", [False, True])
def test_a_kill_at_any_point_leaves_each_file_old_or_new(tmp_path, is_old):
    outcomes = set()
    for last in itertools.count(1):
        folder = tmp_path / str(last)
        folder.mkdir()
        listed(folder).begin({"seed": 3}, {"a.json": "1"})
        write(folder, b=2)
        if is_old:  # a folder of an earlier version, whose manifest lists nothing
            write_manifest(folder / "manifest.json", {"seed": 3})
        was_killed = run_killed(lambda folder=folder: write(folder, b=20, c=30), folder, last)
        found = tuple(values(folder))
        assert found in ((1, 2, None), (1, 20, None), (1, 20, 30)), f"killed at {last}"
        outcomes.add(found)
        write(folder, c=31)
        assert values(folder) == [1, found[1], 31]
        assert is_old or listed(folder).unlisted(["b.json", "c.json"]) == []
        if not was_killed:
            break
    assert last > 8 and len(outcomes) == 3


def test_files_of_an_earlier_version_are_read_and_known_as_unlisted(folder):
    write_manifest(folder / "manifest.json", {"seed": 3})
    assert values(folder) == [1, 2, None]
    assert listed(folder).unlisted(["a.json", "b.json", "c.json"]) == ["a.json", "b.json"]
    (folder / "manifest.json").unlink()
    assert values(folder) == [1, 2, None] and listed(folder).facts() == {}


def test_a_file_written_by_other_means_is_verified_while_it_is_listed(folder):
    (folder / "b.json").write_text("7")
    with pytest.raises(ValueError, match="b.json has changed"):
        values(folder)
    listed(folder).unlist_file("b.json")
    assert values(folder) == [1, 7, None]
    listed(folder).list_file("b.json")
    assert values(folder) == [1, 7, None] and listed(folder).unlisted(["b.json"]) == []
    (folder / "b.json").write_text("8")
    with pytest.raises(ValueError, match="b.json has changed"):
        values(folder)


def test_a_reader_beside_a_writer_sees_one_state_or_the_next(folder):
    reader, calls = listed(folder), []

    def parse(content):
        if not calls:  # another process replaces the file between the manifest and the content
            calls.append(1)
            write(folder, a=100)
            raise ValueError("half of this, half of that")
        return json.loads(content)

    assert reader.read("a.json", parse) == 100


def test_content_that_cannot_be_parsed_names_the_file(folder):
    with pytest.raises(ValueError, match=f"{folder / 'a.json'}: no; mend a.json"):
        listed(folder).read("a.json", lambda content: (_ for _ in ()).throw(ValueError("no")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_manifest_whose_hash_is_right_and_whose_types_are_wrong_is_named(folder, data):
    path = folder / "manifest.json"
    whole = path.read_bytes()
    write_manifest(path, data.draw(of_another_type(read_manifest(path))))
    try:
        assert values(folder) == [1, 2, None]
    except ValueError as error:
        assert str(folder) in str(error) and "mend" in str(error)
    finally:
        path.write_bytes(whole)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=st.dictionaries(st.text(min_size=1).filter(lambda name: name != "sha256"), JSON, max_size=4))
def test_a_manifest_comes_back_as_json_keeps_it(tmp_path, facts):
    write_manifest(tmp_path / "manifest.json", facts)
    found = read_manifest(tmp_path / "manifest.json")
    write_manifest(tmp_path / "again.json", found)
    assert found.keys() == facts.keys()
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "manifest.json").read_bytes()
