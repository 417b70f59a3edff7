"""How a driver is spoken to: one JSON request on stdin, one JSON reply in a file of its own.

A driver is a program of its own, run by a toolchain's Python; it imports the standard library, the vendor's
package and this file. What the vendor's tool prints goes to the log, which stdout and stderr are.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import traceback

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]  # a driver has its package's name


class Refused(Exception):  # noqa: N818 - an answer, no error
    """The vendor's tool does not take this model: the message says what it refuses and why."""


def serve(**commands):
    """Answer the request on stdin by the command that it names; the working folder is private to it.

    A command takes the request and returns a reply, both JSON objects. `Refused` is an answer; any other
    exception is a failure of the tool, its traceback in the log.
    """
    _die_with_the_caller()
    envelope = json.load(sys.stdin)
    if envelope["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (envelope["memory_bytes"],) * 2)
    try:
        reply = {"reply": commands[envelope["command"]](envelope["request"])}
    except Refused as refused:
        reply = {"refused": str(refused)}
    except Exception as failed:
        traceback.print_exc()
        reply = {"failed": f"{type(failed).__name__}: {failed}"}
    sys.stdout.flush()
    sys.stderr.flush()
    with os.fdopen(envelope["reply_to"], "w") as answer:
        json.dump(reply, answer)
    os._exit(0)  # some vendors' libraries crash while they are unloaded


def _die_with_the_caller():
    """Let the kernel kill this process when the one that asked is gone (Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def load_arrays(path):
    """The arrays of an .npz that `convkit.backends.save_arrays` wrote, in order."""
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return [archive[str(i)] for i in range(len(archive.files))]


def save_arrays(path, arrays):
    """Write arrays, in order, for `convkit.backends.load_arrays`."""
    import numpy as np

    np.savez(path, **{str(i): array for i, array in enumerate(arrays)})
