"""Every published layout of MovieLens is read, whole and checked, from wherever it comes."""

import dataclasses
import hashlib
import http.server
import io
import re
import subprocess
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.data.published import movielens
from retrieval.data.readers import fetch

FLAGS = {"Drama": 8, "Musical": 12, "unknown": 0}


def item(number: int, title: str, date: str, *genres: str) -> str:
    flags = ["1" if index in [FLAGS[genre] for genre in genres] else "0" for index in range(19)]
    return "|".join([str(number), title, date, "", "http://imdb.com/x", *flags]) + "\n"


HUNDRED_K = {
    "u.data": b"2\t1\t5\t881250949\n1\t267\t1\t891717742\n",
    "u.item": (
        item(1, "Mis\xe9rables, Les (1995) ", "01-Jan-1995", "Drama", "Musical") + item(267, "unknown", "", "unknown")
    ).encode("latin-1"),
    "u.user": b"1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
}
ONE_M = {
    "ratings.dat": b"1::661::3::978302109\n2::1::5::978301968\n",
    "movies.dat": b"1::Mis\xe9rables, Les (1995)::Drama|Musical\n" + b'661::5" Disc: The Movie (1996)::Drama\n',
    "users.dat": b"1::F::1::10::48067\n2::M::56::0::00501\n",
}
TEN_M = {
    "ratings.dat": b"1::122::5::838985046\n1::185::0.5::838983525\n",
    "movies.dat": "122::Mis\xe9rables, Les (1995)::Drama|Musical\n".encode()
    + b"185::The Net (1995)::(no genres listed)\n",
}
COMMAS = {
    "ratings.csv": b"userId,movieId,rating,timestamp\r\n1,2,3.5,1112486027\r\n1,29,4.0,1112484676\r\n",
    "movies.csv": (
        'movieId,title,genres\r\n2,"City of Lost Children, The (Cit\xe9, La) (1995)",Drama|Musical\r\n'
        '29,"""Great"" 2001",(no genres listed)\r\n'
    ).encode(),
}
LAYOUTS = {
    "movielens-100k": HUNDRED_K,
    "movielens-1m": ONE_M,
    "movielens-10m": TEN_M,
    "movielens-20m": COMMAS,
    "movielens-25m": COMMAS,
    "movielens-32m": COMMAS,
    "movielens-latest-small": COMMAS,
}
RECBOLE = {
    "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    b"2\t1\t5\t881250949\n1\t267\t1\t891717742\n",
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tMis\xe9rables, Les\t1995\tDrama Musical\n267\tunkonwn\tunkonwn\tunknown\n"
    ).encode(),
    "ml-100k.user": b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    b"1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n",
}


def write_folder(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def zipped(folder: str, contents: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(f"{folder}/{name}", content)
    return archive.getvalue()


def in_every_form(tmp_path: Path, name: str) -> list[str]:
    folder = movielens.RELEASES[name].folder
    inside = write_folder(tmp_path / folder, LAYOUTS[name])
    archive = tmp_path / "any name.zip"
    archive.write_bytes(zipped(folder, LAYOUTS[name]))
    return [str(inside), str(tmp_path), str(archive)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_its_parent_and_an_archive_give_the_same(tmp_path, name):
    for path in in_every_form(tmp_path, name):
        found = movielens.load(name, path)
        assert found.ratings.columns().keys() == {"query_ids", "candidate_ids", "ratings", "timestamps"}
        assert found.movies.columns["genres"][0] == "Drama|Musical"
        assert "\xe9" in found.movies.columns["title"][0]
        assert (found.users is None) == (name not in ("movielens-100k", "movielens-1m"))


def test_100k_is_read_as_published(tmp_path):
    found = movielens.load("movielens-100k", str(write_folder(tmp_path / "x", HUNDRED_K)))
    assert {name: column.tolist() for name, column in found.ratings.columns().items()} == {
        "query_ids": [2, 1],
        "candidate_ids": [1, 267],
        "ratings": [5.0, 1.0],
        "timestamps": [881250949, 891717742],
    }
    assert found.movies.ids.tolist() == [1, 267]
    np.testing.assert_array_equal(found.movies.columns["release_year"], [1995, np.nan])
    assert {name: of.tolist() for name, of in found.movies.columns.items() if name != "release_year"} == {
        "title": ["Mis\xe9rables, Les (1995)", "unknown"],
        "release_date": ["01-Jan-1995", ""],
        "genres": ["Drama|Musical", "unknown"],
    }
    assert found.users.ids.tolist() == [1, 2]
    assert {name: column.tolist() for name, column in found.users.columns.items()} == {
        "age": [24, 53],
        "gender": ["M", "F"],
        "occupation": ["technician", "other"],
        "zip_code": ["85711", "T8H1N"],
    }


def test_1m_has_occupations_by_name_and_years_for_dates(tmp_path):
    found = movielens.load("movielens-1m", str(write_folder(tmp_path / "x", ONE_M)))
    assert found.ratings.candidate_ids.tolist() == [661, 1]
    assert found.movies.columns["title"].tolist() == [
        "Mis\xe9rables, Les (1995)",
        '5" Disc: The Movie (1996)',
    ]
    assert found.movies.columns["release_date"].tolist() == ["1995", "1996"]
    assert {name: column.tolist() for name, column in found.users.columns.items()} == {
        "age": [1, 56],
        "gender": ["F", "M"],
        "occupation": ["K-12 student", "other"],
        "zip_code": ["48067", "00501"],
    }


def test_10m_has_half_stars_and_no_genre_where_none_is_listed(tmp_path):
    found = movielens.load("movielens-10m", str(write_folder(tmp_path / "x", TEN_M)))
    assert found.ratings.ratings.tolist() == [5.0, 0.5]
    assert found.movies.columns["genres"].tolist() == ["Drama|Musical", ""]


def test_comma_separated_releases_have_quoted_titles(tmp_path):
    found = movielens.load("movielens-25m", str(write_folder(tmp_path / "x", COMMAS)))
    assert found.ratings.ratings.tolist() == [3.5, 4.0]
    assert found.movies.columns["title"].tolist() == [
        "City of Lost Children, The (Cit\xe9, La) (1995)",
        '"Great" 2001',
    ]
    assert found.movies.columns["release_date"].tolist() == ["1995", ""]
    np.testing.assert_array_equal(found.movies.columns["release_year"], [1995, np.nan])


def test_an_unknown_release_is_named_with_its_neighbour():
    with pytest.raises(ValueError, match="release must be one of .*'movielens-100'; did you mean 'movielens-10"):
        movielens.load("movielens-100")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "movielens-100k",
            {"u.data": b"1\t1\t5\t1\n1\t9\t5\t1\n"},
            "u.data, line 2, column 'movie_id': a movie that",
        ),
        (
            "movielens-100k",
            {"u.data": b"1\t1\t5\t1\n3\t1\t5\t1\n"},
            "u.data, line 2, column 'user_id': a user that",
        ),
        (
            "movielens-100k",
            {"u.data": b"1\t1\t5\t1\n1\tx\t5\t1\n"},
            "'movie_id': not an integer id, got 'x'; restore",
        ),
        (
            "movielens-100k",
            {"u.data": b"1\t1\t5\t1\n1\t-1\t5\t1\n"},
            "line 2, column 'movie_id': negative id, got '-1'",
        ),
        ("movielens-100k", {"u.data": b"1\t1\t5\t1\n1\t1\t6\t1\n"}, "got '6'; use ratings from 0.5 to 5"),
        (
            "movielens-100k",
            {"u.data": b"1\t1\t5\t1\n1\t1\t0\t1\n"},
            "line 2, column 'rating': rating out of range",
        ),
        (
            "movielens-100k",
            {"u.data": b"1\t1\t5\t1\n1\t1\t5\n"},
            "u.data, line 2: expected 4 fields, found 3",
        ),
        (
            "movielens-100k",
            {"u.user": b"1|24|M|x|1\n1|24|M|x|1\n"},
            "u.user, line 2, column 'user_id': repeated id",
        ),
        (
            "movielens-100k",
            {"u.item": b"1|x|y|||" + b"|".join([b"2"] * 19)},
            "line 1, column 'unknown': a genre flag",
        ),
        (
            "movielens-1m",
            {"users.dat": b"1::F::1::21::48067\n"},
            "users.dat, line 1, column 'occupation': unknown",
        ),
        (
            "movielens-1m",
            {"ratings.dat": b"1::1::5::1\n1::1::5\n"},
            "ratings.dat, line 2: expected 4 fields, found 3",
        ),
        ("movielens-10m", {"movies.dat": b"1::Caf\xe9::Drama\n"}, "movies.dat, line 1: not UTF-8"),
        (
            "movielens-20m",
            {"ratings.csv": b"userId,movieId,rating\n1,2,3\n"},
            "ratings.csv, line 1: no column 'time",
        ),
        ("movielens-20m", {"movies.csv": b""}, "movies.csv is empty"),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_column(tmp_path, name, changes, message):
    folder = write_folder(tmp_path / "x", {**LAYOUTS[name], **changes})
    with pytest.raises(DataError, match=re.escape(message)) as error:
        movielens.load(name, str(folder))
    assert str(error.value).startswith(str(folder))


def test_a_missing_file_is_named(tmp_path):
    folder = write_folder(tmp_path / "x", {"ratings.csv": COMMAS["ratings.csv"]})
    with pytest.raises(DataError, match="x/movies.csv does not exist"):
        movielens.load("movielens-20m", str(folder))
    archive = tmp_path / "x.zip"
    archive.write_bytes(zipped("ml-20m", {"ratings.csv": COMMAS["ratings.csv"]}))
    with pytest.raises(DataError, match=r"x.zip has no ml-20m/movies.csv, got \['ml-20m/ratings.csv'\]"):
        movielens.load("movielens-20m", str(archive))
    with pytest.raises(DataError, match="y.zip does not exist; did you mean 'x.zip'"):
        movielens.load("movielens-20m", str(tmp_path / "y.zip"))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_archive_gives_data_or_a_value_error(tmp_path_factory, data):
    content = bytearray(zipped("ml-20m", COMMAS))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        found = movielens.load("movielens-20m", str(path))
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert len(found.ratings) == 2


@pytest.fixture
def grouplens(monkeypatch):
    """A loopback server in GroupLens' place: yields what it serves, (content, announced size) by path."""
    served = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in served:
                self.send_error(404)
                return
            content, size = served[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(movielens, "URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "*")
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def pinned(monkeypatch):
    """Pins a small archive in the place of a release; returns its bytes."""

    def pin(name: str) -> bytes:
        release = movielens.RELEASES[name]
        content = zipped(release.folder, LAYOUTS[name])
        changed = dataclasses.replace(release, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(movielens.RELEASES, name, changed)
        return content

    return pin


@pytest.fixture
def pip(monkeypatch):
    """Takes pip's place: yields the calls; gives `pip.wheel`, or fails where it is empty."""

    class Pip:
        calls = []
        wheel, names, status = b"", (movielens.WHEEL,), 0

        def run(self, command, **options):
            self.calls.append(command)
            if not self.wheel:
                return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: no network\n")
            folder = Path(command[command.index("-d") + 1])
            for name in self.names:
                (folder / name).write_bytes(self.wheel)
            return subprocess.CompletedProcess(command, self.status, "", "ERROR: disk full\n" * self.status)

    stand_in = Pip()
    stand_in.calls = []
    monkeypatch.setattr(fetch.subprocess, "run", stand_in.run)
    return stand_in


def test_a_download_is_checked_reported_and_kept(tmp_path, grouplens, pinned):
    content = pinned("movielens-20m")
    grouplens["/ml-20m.zip"] = content, len(content)
    calls = []
    cache = tmp_path / "new" / "cache"
    found = movielens.load("movielens-20m", cache=str(cache), progress=lambda done, total: calls.append((done, total)))
    assert len(found.ratings) == 2
    assert calls[-1] == (len(content), len(content))
    assert [path.name for path in cache.iterdir()] == ["ml-20m.zip"]
    grouplens.clear()
    again = movielens.load("movielens-20m", cache=str(cache))
    assert again.ratings.fingerprint() == found.ratings.fingerprint()


@pytest.mark.parametrize("change", ["truncated", "tampered", "longer"])
def test_a_wrong_download_is_named_and_leaves_nothing(tmp_path, grouplens, pinned, change):
    content = pinned("movielens-100k")
    sent = {"truncated": content[:100], "tampered": b"X" + content[1:], "longer": content + b"X"}[change]
    grouplens["/ml-100k.zip"] = sent, max(len(sent), len(content))
    expected, received = movielens.RELEASES["movielens-100k"].sha256, hashlib.sha256(sent).hexdigest()
    with pytest.raises(DataError, match=f"sent {len(sent)} bytes with SHA-256 {received}, expected .* with {expected}"):
        movielens.load("movielens-100k", cache=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_cache_that_was_tampered_with_is_named(tmp_path, pinned):
    content = pinned("movielens-20m")
    (tmp_path / "ml-20m.zip").write_bytes(content + b"X")
    received = hashlib.sha256(content + b"X").hexdigest()
    expected = movielens.RELEASES["movielens-20m"].sha256
    message = f"ml-20m.zip is damaged: expected SHA-256 {expected}, got {received}; delete it"
    with pytest.raises(DataError, match=message):
        movielens.load("movielens-20m", cache=str(tmp_path))


def test_where_grouplens_has_no_answer_the_error_says_what_to_do(tmp_path, grouplens):
    message = r"/ml-20m.zip cannot be reached \(HTTP Error 404: Not Found\); get a copy of ml"
    with pytest.raises(DataError, match=message):
        movielens.load("movielens-20m", cache=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_100k_falls_back_to_recbole_and_keeps_it(tmp_path, grouplens, pip, monkeypatch):
    pip.wheel = zipped(movielens.WHEEL_FOLDER, RECBOLE)
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256(pip.wheel).hexdigest())
    found = movielens.load("movielens-100k", cache=str(tmp_path / "cache"))
    again = movielens.load("movielens-100k", cache=str(tmp_path / "cache"))
    published = movielens.load("movielens-100k", str(write_folder(tmp_path / "x", HUNDRED_K)))
    assert len(pip.calls) == 1 and pip.calls[0][-1] == "recbole==1.2.1"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [movielens.WHEEL]
    for copy in (found, again):
        assert copy.ratings.fingerprint() == published.ratings.fingerprint()
        assert copy.movies.columns["release_date"].tolist() == ["1995", ""]
        for name in ("title", "genres"):
            np.testing.assert_array_equal(copy.movies.columns[name], published.movies.columns[name])
        for name, column in published.users.columns.items():
            np.testing.assert_array_equal(copy.users.columns[name], column)


def test_another_wheel_is_named_and_leaves_nothing(tmp_path, grouplens, pip):
    pip.wheel = b"another wheel"
    received = hashlib.sha256(pip.wheel).hexdigest()
    message = f"pip gave a recbole==1.2.1 with SHA-256 {received}, expected {movielens.WHEEL_SHA256}"
    with pytest.raises(DataError, match=message):
        movielens.load("movielens-100k", cache=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "names", "reason"),
    [
        (1, [movielens.WHEEL], "ERROR: disk full"),
        (0, [movielens.WHEEL, "other-1.0-py3-none-any.whl"], "2 wheels came"),
        (0, ["recbole-1.2.1.tar.gz"], "0 wheels came"),
    ],
)
def test_a_wheel_is_taken_only_where_pip_ends_well_and_gives_one(tmp_path, pip, status, names, reason):
    pip.wheel, pip.status, pip.names = b"wheel", status, names
    digest = hashlib.sha256(pip.wheel).hexdigest()
    with pytest.raises(fetch.Unreachable, match=rf"pip cannot download recbole==1.2.1 \({reason}\)"):
        fetch.download_wheel("recbole==1.2.1", tmp_path / movielens.WHEEL, digest)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_in_the_cache_that_was_tampered_with_is_named(tmp_path):
    (tmp_path / movielens.WHEEL).write_bytes(b"another wheel")
    with pytest.raises(DataError, match=f"{movielens.WHEEL} is damaged: expected SHA-256 {movielens.WHEEL_SHA256}"):
        movielens.load("movielens-100k", cache=str(tmp_path))


def test_where_both_sources_fail_the_error_gives_both_reasons(tmp_path, grouplens, pip):
    message = r"HTTP Error 404.*pip cannot download recbole==1.2.1 \(ERROR: no network\); get a copy of ml-100k.zip"
    with pytest.raises(DataError, match=message):
        movielens.load("movielens-100k", cache=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def as_published(delimiter: str, *columns: np.ndarray) -> str:
    """Returns the SHA-256 of the columns, written as the published file writes them."""
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return hashlib.sha256("".join(f"{delimiter.join(map(str, row))}\n" for row in rows).encode()).hexdigest()


def test_100k_is_the_published_data_set():
    found = movielens.load("movielens-100k")
    assert (len(found.ratings), len(found.movies), len(found.users)) == (100_000, 1_682, 943)
    users, movies, ratings, times = found.ratings.columns().values()
    assert (users[0], movies[0], ratings[0], times[0]) == (196, 242, 3, 881250949)
    assert len(np.unique(users)) == 943
    u_data = as_published("\t", users, movies, ratings.astype(int), times)
    u_user = as_published("|", found.users.ids, *found.users.columns.values())
    assert u_data == "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
    assert u_user == "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"


def test_100k_has_the_published_titles_genres_and_years():
    movies = movielens.load("movielens-100k").movies
    row = {movie: index for index, movie in enumerate(movies.ids.tolist())}
    title, date, genres = (movies.columns[name] for name in ("title", "release_date", "genres"))
    assert title[row[1]] == "Toy Story (1995)" and date[row[1]].endswith("1995")
    assert genres[row[1]] == "Animation|Children's|Comedy"
    assert title[row[267]] == genres[row[267]] == "unknown" and date[row[267]] == ""
    assert title[row[543]] == "Mis\xe9rables, Les (1995)"
    assert title[row[1201]] == "Marlene Dietrich: Shadow and Light (1996)"
    assert title[row[1412]] == "Land Before Time III: The Time of the Great Giving (1995) (V)"
    assert (
        as_published("|", movies.ids, title, genres)
        == "4bf05fda81c7448a147f679f8801785e63d46ff59fb0e3322157bc6b33429d54"
    )
