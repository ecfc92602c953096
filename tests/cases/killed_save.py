"""Saves a bundle and is killed at the n-th thing that it does to the disk; prints how many there are where n is 0.

python tests/cases/killed_save.py FOLDER N SCALE
"""

import os
import pathlib
import signal
import sys

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "tempfile.mkdtemp"}


class Killer:
    """Counts what touches the folder's parent, and the calls that Python does not see, as each is about to happen."""

    def __init__(self, folder, last):
        self.parent, self.last = str(folder.parent), last
        self.number, self.armed = 0, False

    def __call__(self, event, arguments):
        touches = event in EVENTS and self.parent in str(arguments[0])
        if self.armed and (touches or event == "ctypes.dlsym"):
            self.number += 1
            if self.number == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def main():
    here = pathlib.Path(__file__).parent
    sys.path[:0] = [str(here), str(here.parents[1])]
    from bundle_cases import save

    folder, scale = pathlib.Path(sys.argv[1]), float(sys.argv[3])
    killer = Killer(folder, int(sys.argv[2]))
    sys.addaudithook(killer)
    killer.armed = True
    save(folder, scale)
    killer.armed = False
    print(killer.number)


if __name__ == "__main__":
    main()
