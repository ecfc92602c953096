"""Readers of the file layouts of MovieLens at GroupLens, and of the copy inside RecBole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Shaped

from retrieval.data.interactions import Interactions, Table
from retrieval.data.readers.arrow import (
    Column,
    require_unique,
    to_integer_ids,
    to_ratings,
    to_text,
    to_times,
)
from retrieval.data.readers.attributes import to_attribute
from retrieval.data.readers.delimited import Source, read

Files = Callable[[str], tuple[str, bytes]]  # name of a member -> name of the file in errors, and its content
Text = Shaped[np.ndarray, "n"]

RESTORE = "restore the file as it was published"
SEPARATOR = "\x1f"  # replaces "::": pyarrow splits at single characters only
RATINGS = ("user_id", "movie_id", "rating", "timestamp")
GENRES = (  # u.genre of 100K, in the order of its flags
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
OCCUPATIONS = (  # README of 1M, by code
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)


@dataclasses.dataclass(frozen=True)
class MovieLens:
    """One release of MovieLens.

    Attributes:
      ratings: the ratings in file order, 0.5 to 5.
      movies: table with "title" including the year, as "Toy Story (1995)"; "release_date" as published ("01-Jan-1995"),
        or else the year in the title; "genres" joined by "|"; missing text is "". "release_year" is the year of the
        release date, NaN if missing.
      users: table with "age" in years (1M: the lower bound of a range, 1 is under 18), "gender", "occupation" and
        "zip_code"; None for releases without users.
    """

    ratings: Interactions
    movies: Table
    users: Table | None


def hundred_k(files: Files) -> MovieLens:
    """Reads 100K: u.data, u.item and u.user."""
    names = ("movie_id", "title", "release_date", "video_release_date", "imdb_url", *GENRES)
    ids, title, release_date, _, _, *flags = read(_source(files, "u.item", "|", names, "latin-1"), names).values()
    movies = _movies(ids, to_text(title), _flagged(flags), to_text(release_date))
    names = ("user_id", "age", "gender", "occupation", "zip_code")
    ids, age, gender, occupation, zip_code = read(_source(files, "u.user", "|", names), names).values()
    users = _users(ids, age, gender, to_text(occupation), zip_code)
    return _joined(_source(files, "u.data", "\t", RATINGS), RATINGS, movies, users)


def one_m(files: Files) -> MovieLens:
    """Reads 1M: ratings.dat, movies.dat and users.dat."""
    names = ("user_id", "gender", "age", "occupation", "zip_code")
    ids, gender, age, occupation, zip_code = read(_source(files, "users.dat", "::", names), names).values()
    codes = to_integer_ids(occupation)
    occupation.require(codes < len(OCCUPATIONS), "unknown occupation", RESTORE)
    users = _users(ids, age, gender, np.array(OCCUPATIONS)[codes], zip_code)
    return _joined(_source(files, "ratings.dat", "::", RATINGS), RATINGS, _dat_movies(files, "latin-1"), users)


def ten_m(files: Files) -> MovieLens:
    """Reads 10M: ratings.dat and movies.dat."""
    return _joined(_source(files, "ratings.dat", "::", RATINGS), RATINGS, _dat_movies(files, "utf-8"), None)


def comma_separated(files: Files) -> MovieLens:
    """Reads 20M, 25M, 32M and latest-small: ratings.csv and movies.csv."""
    columns = read(_source(files, "movies.csv", ",", quoted=True), ("movieId", "title", "genres"))
    ids, title, genres = columns.values()
    ratings = _source(files, "ratings.csv", ",", quoted=True)
    names = ("userId", "movieId", "rating", "timestamp")
    return _joined(ratings, names, _movies(ids, to_text(title), to_text(genres)), None)


def recbole(files: Files) -> MovieLens:
    """Reads 100K from RecBole's ml-100k.inter, .item and .user, which have years in place of dates.

    Titles are restored to their published form: RecBole has the year in a column of its own, and "unkonwn" as title and
    year of movie 267.
    """
    names = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    ids, *columns = read(_source(files, "ml-100k.item", "\t"), names).values()
    title, year, genres = map(to_text, columns)
    titles = np.where(year == "unkonwn", "unknown", np.strings.add(np.strings.add(title, " ("), year + ")"))
    movies = _movies(ids, titles, np.strings.replace(genres, " ", "|"))
    names = ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")
    ids, age, gender, occupation, zip_code = read(_source(files, "ml-100k.user", "\t"), names).values()
    users = _users(ids, age, gender, to_text(occupation), zip_code)
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    return _joined(_source(files, "ml-100k.inter", "\t"), names, movies, users)


def _source(
    files: Files,
    member: str,
    delimiter: str,
    header: Sequence[str] = (),
    encoding: str = "utf-8",
    quoted: bool = False,
) -> Source:
    """Returns a member of the release as delimited UTF-8 text."""
    name, content = files(member)
    if encoding != "utf-8":
        content = content.decode(encoding).encode()
    if delimiter == "::":
        content, delimiter = content.replace(b"::", SEPARATOR.encode()), SEPARATOR
    return Source(name, lambda: pa.BufferReader(content), delimiter, header, quoted)


def _dat_movies(files: Files, encoding: str) -> Table:
    """Reads movies.dat."""
    names = ("movie_id", "title", "genres")
    ids, title, genres = read(_source(files, "movies.dat", "::", names, encoding), names).values()
    return _movies(ids, to_text(title), to_text(genres))


def _movies(ids: Column, titles: Text, genres: Text, release_dates: Text | None = None) -> Table:
    """Returns the table of movies; without release dates, the last "(year" in the title is the release date."""
    movie_ids = to_integer_ids(ids)
    require_unique(ids, movie_ids)
    titles = np.strings.strip(titles)
    if release_dates is None:
        found = pc.extract_regex(pa.array(titles), r".*\((?P<year>[0-9]{4})")
        release_dates = np.array(pc.struct_field(found, "year").fill_null("").to_pylist(), np.str_)
    genres = np.where(genres == "(no genres listed)", "", genres)
    years = pc.struct_field(pc.extract_regex(pa.array(release_dates), r"(?P<year>[0-9]{4})$"), "year")
    years = pc.cast(years, pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    columns = {"title": titles, "release_date": release_dates, "release_year": years, "genres": genres}
    return Table(movie_ids, columns)


def _flagged(flags: Sequence[Column]) -> Text:
    """Returns the names of the genres whose flag is 1, joined by "|"."""
    joined = np.full(len(flags[0].values), "")
    for genre, flag in zip(GENRES, flags, strict=True):
        flag.require(pc.is_in(flag.values, pa.array(["0", "1"])), "a genre flag must be 0 or 1", RESTORE)
        joined = np.strings.add(joined, np.where(to_text(flag) == "1", f"{genre}|", ""))
    return np.strings.rstrip(joined, "|")


def _users(ids: Column, age: Column, gender: Column, occupations: Text, zip_code: Column) -> Table:
    """Returns the table of users."""
    user_ids = to_integer_ids(ids)
    require_unique(ids, user_ids)
    columns = {"age": to_attribute(age), "gender": to_text(gender)}
    return Table(user_ids, {**columns, "occupation": occupations, "zip_code": to_text(zip_code)})


def _joined(source: Source, names: Sequence[str], movies: Table, users: Table | None) -> MovieLens:
    """Reads the ratings and checks that the tables have their movies and users."""
    user, movie, rating, timestamp = read(source, names).values()
    user_ids, movie_ids = to_integer_ids(user), to_integer_ids(movie)
    movie.require(np.isin(movie_ids, movies.ids), "a movie that the table of movies lacks", RESTORE)
    if users is not None:
        user.require(np.isin(user_ids, users.ids), "a user that the table of users lacks", RESTORE)
    stars = to_ratings(rating, 0.5, 5.0)
    return MovieLens(Interactions(user_ids, movie_ids, stars, to_times(timestamp).seconds), movies, users)
