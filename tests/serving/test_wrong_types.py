"""Arguments of other types are refused by name, in a process where no annotation is checked, as in those of users."""

import json
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).parent
CASES = [  # what is called, and what the error says
    ("Filter(allow=5)", "allow must be a list or an array of ids, as [7] or ['b'], got 5"),
    ("Filter(allow={1, 2})", "allow must be a list or an array of ids, as [7] or ['b'], got {1, 2}"),
    ("Filter(deny=None)", "deny must be a list or an array of ids, as [7] or ['b'], got None"),
    ("Filter(deny=True)", "deny must be a list or an array of ids, as [7] or ['b'], got True"),
    ("Filter(one_of={1990: ['War']})", "one_of must be a mapping by the names of columns, got [1990]"),
    ("Filter(one_of={'year': np.array(1990)})", "one_of['year'] must be a list of values, got array(1990)"),
    ("Filter(one_of={'year': b'19'})", "one_of['year'] must be a list of values, got b'19'"),
    ("served.recommend('ann', exclude_seen='no')", "exclude_seen must be True or False, got 'no'"),
    ("served.recommend('ann', exclude_seen=None)", "exclude_seen must be True or False, got None"),
    ("served.recommend('ann', filter={'deny': ['A']})", "filter must be a retrieval.Filter, such as Filter(deny=[7])"),
    (
        "served.recommend('ann', index=ExactIndex.build([[1]]))",
        "index must be one by raw id, as `live_index()` returns",
    ),
    ("Filter(between={'year': (np.datetime64('1990'), None)})", "between['year'] must hold text or numbers"),
    ("Filter(one_of={'year': [np.complex64(1)]})", "one_of['year'] must hold text or numbers"),
    ("served.recommend('ann', '3')", "k must be an integer, got '3'"),
    ("served.similar('A', 1.5)", "k must be an integer, got 1.5"),
    ("served.recommend(['ann'], exclude={'A'})", "exclude must be a list of ids, or a list of such lists, got {'A'}"),
    ("served.recommend(['ann'], exclude=np.array('A'))", "exclude must be a list of ids, or a list of such lists"),
    ("served.score('ann', {'A'})", "candidate_ids: ids must be integers or strings, got {'A'}"),
    ("live.add([7], [[1, 2]], ['year'])", "attributes must be a mapping of columns by name, got ['year']"),
    ("live.add([7], [[1, 2]], {3: [1]})", "attributes must be named by text, got 3"),
    ("live.add(7, [[1, 2]])", "ids must be a list or an array of ids, as [7] or ['b'], got 7"),
    ("live.remove({1})", "ids must be a list or an array of ids, as [7] or ['b'], got {1}"),
    ("live.search([[1, 2]], 1, exclude={1})", "exclude must be a list with an entry for each of 1 queries, got {1}"),
    ("live.search([[1, 2]], 1, exclude=[7])", "exclude[0] must be a list or an array of ids, as [7] or ['b'], got 7"),
    ("live.search([[1, 2]], 1, filter='a')", "filter must be a retrieval.Filter, such as Filter(deny=[7]), got 'a'"),
    ("LiveIndex.build([0], ExactIndex.build([[1]]), None, '0.2')", "rebuild_at must be a share, 0 at least, or inf"),
    ("LiveIndex.build([0], ExactIndex.build([[1]]), zeros='no')", "zeros must be True or False, got 'no'"),
    ("LiveIndex.build([0], [[1]])", "base must be a searcher, as ExactIndex.build(embeddings) makes one, got [[1]]"),
    ("ExactIndex.build('a')", "embeddings must be vectors in rows, an array of numbers, got 'a'"),
    ("ExactIndex.build([[1]]).search([[1]], 1, 5)", "excluded must be a list with an entry for each of 1 queries"),
]
CODE = """
import json, sys
import numpy as np
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from retrieval.index import ExactIndex, Filter, LiveIndex
from test_recommend import recommender
served, live = recommender(), LiveIndex.build([0, 1], ExactIndex.build(np.eye(2)))
for case in json.load(sys.stdin):
    try:
        told = f"answered {eval(case)!r}"
    except ValueError as error:
        told = str(error)
    except Exception as error:
        told = repr(error)
    print(json.dumps(told))
"""


def test_arguments_of_other_types_are_refused_by_name():
    given = json.dumps([case for case, _ in CASES])
    done = subprocess.run([sys.executable, "-c", CODE, TESTS], input=given, capture_output=True, text=True, check=True)
    outcome = map(json.loads, done.stdout.splitlines())
    wrong = [(case, got) for (case, message), got in zip(CASES, outcome, strict=True) if not got.startswith(message)]
    assert not wrong
