"""A process that has imported what the programs import, and runs each program in a fork of itself.

Most of the seconds that `python -m experiments.NAME` takes for a small task are imports. A fork begins behind them and
is else a process like any other, with its own arguments, folder, environment, output and exit.

The server reads a line of JSON for each program from its standard input: module, arguments, folder, environment, and
the files of output and errors. It answers with a line: the exit status.
"""

import importlib
import json
import os
import pkgutil
import runpy
import sys

SHARED = ("retrieval", "experiments.shared", "experiments.report", "experiments.inspection")  # they define no flags
HEAVY = {"tensorflow", "optuna", "tensorboard"}  # extras, of single programs


def serve():
    """Answers until the input ends; returns, in each fork, the order that it is to execute."""
    for line in sys.stdin:
        order = json.loads(line)
        if not (child := os.fork()):
            return order
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)


def execute(order):
    """Runs a module as `python -m` does, with the arguments, the folder, the environment and the files of an order."""
    for number, path in ((1, order["output"]), (2, order["errors"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = [order["module"], *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


def import_shared():
    for name in SHARED:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                try:
                    importlib.import_module(module.name)
                except ModuleNotFoundError as error:
                    if error.name not in HEAVY:
                        raise


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    import_shared()
    execute(serve())
