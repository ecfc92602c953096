"""Saves a bundle and is killed at the n-th thing that it does to the disk; prints how many there are where n is 0.

python tests/killed_save.py FOLDER N SCALE
"""

import os
import pathlib
import signal
import sys

here = pathlib.Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent)]

from bundle_cases import save  # noqa: E402

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "tempfile.mkdtemp"}
folder, last, scale = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
number, armed = 0, False


def count(event, arguments):
    """Counts what touches the bundle, and the calls that Python does not see, each as it is about to happen."""
    global number
    touches = event in EVENTS and str(folder.parent) in str(arguments[0])
    if armed and (touches or event == "ctypes.dlsym"):
        number += 1
        if number == last:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(count)
armed = True
save(folder, scale)
armed = False
print(number)
