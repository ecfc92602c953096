"""Each Python block of README and documentation runs as it stands there, the blocks of a page one after another."""

import inspect
import sys

import numpy as np
import pytest
from docs_cases import PAGES, ROOT, blocks, text_of

import experiments.run
import retrieval
from retrieval.config.schema import Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.features.entities import EntityFeatures
from retrieval.index import ExactIndex, LiveIndex
from retrieval.models.binding import init
from retrieval.serving import bundle

WITH_CODE = [page for page in PAGES if blocks(text_of(page), "python")]


def save_bundle(folder, config):
    """Writes a bundle of 50 users and 200 movies, untrained."""
    rng = np.random.default_rng(0)
    users, movies = np.repeat(np.arange(1, 51), 6), np.tile(np.arange(1, 201), 2)[:300]
    events = Interactions(users, rng.permutation(movies))
    columns = {
        "title": np.array([f"Movie {i}" for i in range(200)]),
        "genres": np.resize(["Comedy|Sci-Fi", "Sci-Fi"], 200),
        "release_date": np.full(200, "1990"),
        "release_year": np.linspace(1950, 2000, 200),
    }
    corpus = Table(np.arange(1, 201), columns)
    recipe = retrieval.prepare(config, events, corpus)
    encoding, encoders = recipe.encoding, recipe.architecture.candidate_features
    params = init(recipe.model)
    folder.parent.mkdir(parents=True)
    bundle.save(
        folder,
        model=recipe.bound(params),
        queries=encoding.queries,
        candidates=encoding.candidates,
        corpus=corpus,
        seen=encoding.seen_by_row(events),
        index=ExactIndex.build(np.asarray(recipe.candidate_embeddings(params))),
        facts={},
        candidate_features=EntityFeatures.of_table(encoders, corpus, encoding.candidates.entity_ids),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder with what the pages take as given: a file of events, and two bundles."""
    folder = tmp_path_factory.mktemp("docs")
    rows = [f"{user},{item}" for user in range(20) for item in range(user % 5, user % 5 + 8)]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id", *rows]), encoding="utf-8")
    save_bundle(folder / "runs/movielens_100k/bundle", Config())
    with_features = Config()
    with_features.model.initial_scale = 0.1
    with_features.model.candidate.features = (Feature("id"), Feature("genres", "bag"))
    save_bundle(folder / "runs/movielens_100k_ensemble/bundle", with_features)
    return folder


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_python_blocks_of_a_page_run(page, folder, capsys, monkeypatch):
    started = []
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(ROOT))
    signature = inspect.signature(experiments.run.run)
    monkeypatch.setattr(experiments.run, "run", lambda *args, **named: started.append(signature.bind(*args, **named)))
    module = type(sys)("page")
    monkeypatch.setitem(sys.modules, "page", module)  # classes that a page defines have a home
    module.__dict__["__name__"] = "page"
    for block in blocks(text_of(page), "python"):
        exec(compile(block, page, "exec"), module.__dict__)
    OUTCOMES.get(page, lambda *_: None)(module, capsys.readouterr().out, started)


def _readme(page, output, _):
    (code,) = [block for block in blocks(text_of("README.md"), "python") if "retrieval.fit" in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    assert page.positions.shape == (len(page.targets.query_ids), 10)
    assert "Movie" in output and "excluding_seen/precision_at_10" in output


def _index(page, output, started):
    assert [run.arguments["config"].model.embedding_dimension for run in started] == [16, 32]


def _serving(page, output, _):
    assert "(3, 33)\n" in output
    assert len(page.live) == 200 and page.vector.shape == (33,)


def _index_search(page, output, _):
    assert "film" in output and len(page.index) == 2000
    assert len(LiveIndex.load("films")) == 2000


def _evaluation(page, output, _):
    assert "permutation_p" in output


def _training(page, output, _):
    assert int(page.state.step) > 0 and "softmax" in output


def _migrating(page, output, _):
    expected = -0.7 * np.log(1 / (1 + np.exp(-3.0))) - 0.3 * np.log(1 - 1 / (1 + np.exp(-4.0)))
    np.testing.assert_allclose(float(page.loss), expected, rtol=1e-5)


OUTCOMES = {
    "README.md": _readme,
    "index.md": _index,
    "serving.md": _serving,
    "index-search.md": _index_search,
    "evaluation.md": _evaluation,
    "training.md": _training,
    "migrating.md": _migrating,
}
