"""Items come in order, one is prepared ahead, errors surface where they belong, and no thread is left."""

import threading

import pytest

from retrieval.batching.prefetch import ahead


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_items_come_in_order_and_the_thread_ends(n):
    assert list(ahead(iter(range(n)))) == list(range(n))
    assert not threads()


def test_the_next_item_is_made_while_the_caller_holds_one():
    made = [threading.Event() for _ in range(3)]

    def items():
        for event in made:
            event.set()
            yield threading.current_thread()

    source = ahead(items())
    assert next(source) is not threading.main_thread()
    assert made[1].wait(10)  # nobody asked for it yet
    source.close()
    assert not made[2].is_set()  # one ahead, no more
    assert not threads()


def test_an_error_is_raised_where_its_item_is_due():
    def items():
        yield 1
        raise OSError("the disk is gone")

    source = ahead(items())
    assert next(source) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(source)
    assert not threads()


def test_a_caller_that_drops_the_generator_ends_the_thread():
    source = ahead(iter(range(9)))
    next(source)
    del source
    assert not threads()
