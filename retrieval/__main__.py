"""The command `retrieval`, also `python -m retrieval`: the programs as sub-commands."""

import sys


def main() -> None:
    """Runs the program that the first argument names, see `retrieval --help`."""
    try:
        from retrieval.programs.__main__ import main as run
    except ModuleNotFoundError as error:
        if error.name != "retrieval.programs":
            raise
        sys.exit(
            "error: the programs are not installed: pip install the package, or python -m experiments in its folder"
        )
    run()


if __name__ == "__main__":
    main()
