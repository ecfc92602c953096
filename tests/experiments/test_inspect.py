"""The towers of an experiment as the shell and the page show them."""

import re

import numpy as np
import pytest
from program_cases import program
from report_cases import HOSTILE
from tower_cases import AGE, CORPUS, GENRES, HOUR, ID, PEOPLE, Feature, config, interactions

from experiments.inspection.drawing import draw, tower_block, write_towers
from experiments.inspection.facts import HEADER, bytes_text, graph_bytes, inspect
from retrieval.config.checks import SOFTMAXES
from retrieval.config.schema import Addition, Task
from retrieval.data.interactions import Table
from retrieval.index import HnswIndex
from retrieval.models.binding import init
from retrieval.objectives import OBJECTIVES
from retrieval.pipeline.recipe import prepare


def found_of(change=lambda settings: None, query=(ID, AGE, HOUR), candidate=(ID, GENRES), corpus=CORPUS, **history):
    settings = config(query, candidate, **history)
    change(settings)
    made = prepare(settings, interactions(), corpus, queries=PEOPLE)
    return settings, made, inspect(settings, made)


def everything(settings):
    settings.model.candidate.mlp.hidden_sizes, settings.model.candidate.cross.layers = (8,), 1
    settings.model.candidate_bias, settings.model.temperature = True, 0.1
    settings.model.additions = (Addition("ease", arguments={"rank": 3}), Addition("recent_popularity"))
    settings.tasks = (Task(name="stars", weight=0.5),)


def row_of(found, name, place=0):
    return [row for row in found.rows() if row[0].strip("└ ") == name][place]


def test_a_feature_is_described_by_its_column_kind_table_and_share():
    _, made, found = found_of()
    assert row_of(found, "genres")[2:5] == ["bag genres, mean of up to 2 of 4 rows", "table 4 x 4", "4"]
    assert row_of(found, "age")[2:5] == ["number age, 2 values", "linear 2 x 4", "4"]
    assert row_of(found, "timestamp")[2] == "periodic timestamp, 3 values"
    assert [row_of(found, "id", side)[2] for side in range(2)] == ["6 ids, 1 of 7 rows", "9 ids, 1 of 10 rows"]
    total = found.root.num_parameters
    assert row_of(found, "genres")[5:] == ["16", f"{1600 / total:.1f} %"]
    assert all(len(row) == len(HEADER) for row in found.rows())
    depths = [len(row[0]) - len(row[0].lstrip()) for row in found.rows()]
    assert depths == [max(depth - 1, 0) * 2 for depth, _ in found.root.walk()]


@pytest.mark.parametrize("change", [lambda settings: None, everything])
def test_the_dot_product_has_the_dimensions_of_the_embeddings(change):
    _, made, found = found_of(change)
    width = made.candidate_embeddings(init(made.model)).shape[1]
    score = found.facts["score"]
    assert score.startswith(f"dot product of {width} dimensions: 4 of the towers, 1 of popularity prior")
    assert sum(map(int, re.findall(r"(\d+) of ", score.partition(":")[2]))) == width
    assert ("learned temperature" in score) == ("3 of EASE" in score) == (change is everything)
    assert found.facts["a million items"].startswith(f"{bytes_text(4e6 * width)} of embeddings")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_loss_is_named_with_its_settings(name):
    def change(settings):
        settings.loss.name, settings.regularization.embedding_l2 = name, 0.125
        settings.model.popularity_prior = name in SOFTMAXES
        settings.model.temperature = 1.0

    fact = found_of(change)[2].facts["loss"]
    assert all(field in fact for field in OBJECTIVES[name].options) and "embedding_l2 0.125, sum over the batch" in fact


def test_data_epoch_and_heads_are_named():
    facts = found_of(everything, encoder="mean")[2].facts
    assert facts["data"] == "6 users and 9 items in train, 11 items in the corpus"
    assert re.fullmatch(r"40 interactions, batches of \d+ windows", facts["an epoch"])
    assert facts["heads"] == "stars (regression, weight 0.5)"
    assert "heads" not in found_of()[2].facts and found_of()[2].facts["an epoch"].endswith("batches of 16 examples")


@pytest.mark.parametrize(("M", "dimension"), [(4, 8), (32, 33)])
def test_the_bytes_of_an_index_are_those_of_hnswlib(tmp_path, M, dimension):
    vectors = np.random.default_rng(0).normal(size=(3000, dimension))
    index = HnswIndex.build(vectors, M=M, ef_construction=20, ef=10, seed=0)
    index.graph.save_index(str(tmp_path / "graph"))
    assert graph_bytes(3000, dimension, M) == pytest.approx((tmp_path / "graph").stat().st_size, rel=0.01)


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("settings", [{}, {"encoder": "mean"}, {"encoder": "gru", "layers": 3, "last": True}])
def test_every_part_is_drawn_inside_the_figure_and_boxes_do_not_overlap(settings):
    _, _, found = found_of(everything, **settings)
    figure = draw(found).figure
    texts = {text.replace("_", " ") for text in texts_of(figure)}
    drawn = [part.name for tower in found.root.parts[:2] for _, part in tower.walk()]
    assert {name.replace("_", " ") for name in [*drawn, "head stars"]} <= texts
    (axes,) = figure.axes
    (right, top), boxes = (
        (axes.get_xlim()[1], axes.get_ylim()[1]),
        [p for p in axes.patches if hasattr(p, "get_boxstyle")],
    )
    sides = [(b.get_x(), b.get_y(), b.get_x() + b.get_width(), b.get_y() + b.get_height()) for b in boxes]
    assert all(0 <= x and 0 <= y and X <= right and Y <= top for x, y, X, Y in sides)
    for i, (x, y, X, Y) in enumerate(sides):
        for u, v, U, V in sides[:i]:
            apart = X <= u or U <= x or Y <= v or V <= y
            within = (u <= x and v <= y and X <= U and Y <= V) or (x <= u and y <= v and U <= X and V <= Y)
            assert apart or within


def test_frames_are_as_high_as_what_they_hold():
    _, _, found = found_of(everything, encoder="transformer", last=True)
    for part in found.root.parts[:2]:
        block = tower_block(part)
        assert block.num_parameters == part.num_parameters and block.height > sum(b.height for b in block.blocks)


def test_the_page_is_one_file_in_which_no_text_is_code(tmp_path):
    corpus = Table(CORPUS.ids, {HOSTILE[0]: CORPUS.columns["genres"]})
    settings, _, found = found_of(candidate=[ID, Feature(HOSTILE[0])], corpus=corpus)
    settings.name = HOSTILE[1]
    write_towers(settings, found, tmp_path / "new" / "towers.html")
    page = (tmp_path / "new" / "towers.html").read_text(encoding="utf-8")
    assert HOSTILE[0] not in page and HOSTILE[1] not in page and "&lt;script&gt;hacked" in page
    assert page.count("<svg") == 1 and not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert f"{found.root.num_parameters:,}" in page


@pytest.mark.slow
def test_the_program_prints_the_parts_and_writes_the_page(tmp_path):
    common = ["--config=configs/synthetic.py", "--quiet"]
    output = program("inspect", *common, f"--out={tmp_path}/towers.html")
    assert "└ candidate_tower  FeatureTower  output 32  parameters 12,832  share 57.1 %" in output
    assert "score: dot product of 33 dimensions" in output and f"drawing: {tmp_path}/towers.html" in output
    program("inspect", *common, f"--workdir={tmp_path}/run")
    assert (tmp_path / "run" / "towers.html").read_bytes() == (tmp_path / "towers.html").read_bytes()
    assert "towers.html" not in program("inspect", *common)
    wrong = program("inspect", *common, "--config.model.history.encoder=bert", fails=True)
    assert "model.history.encoder must be one of" in wrong and "got 'bert'" in wrong
