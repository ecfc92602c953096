"""Where the batches of an epoch can be: on the device, or streamed to it."""

from retrieval.common.choices import check_choice

PLACEMENTS = ("auto", "device", "stream")


def check_placement(placement: str) -> None:
    """Checks that `placement` is one of `PLACEMENTS`.

    Raises:
      ValueError: the name is none of them.
    """
    check_choice("placement", placement, PLACEMENTS)
