"""Work in a forked process that is killed at the n-th thing that it does to the disk."""

import os
import signal
import sys
import warnings

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "ctypes.dlsym"}


def run_killed(work, folder, last):
    """Calls `work` in a copy of this process, which dies as its `last`-th access below `folder` begins; says if it did.

    Calls that Python does not see, as the exchange of two folders, count too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads: the copy touches files alone
        child = os.fork()
    if child == 0:
        count = 0

        def killer(event, arguments):
            nonlocal count
            if event in EVENTS and (event == "ctypes.dlsym" or str(folder) in str(arguments[0])):
                count += 1
                if count == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(killer)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
