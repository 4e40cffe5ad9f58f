"""Becomes another program that the kernel kills as soon as its parent ends.

Run as `launcher.py PARENT_PID PROGRAM ARGUMENT...`, with the standard library alone. A program
that is started directly could only be told so between fork and exec, where a process with
threads, as TensorFlow's is, must not run Python.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied(*program: str) -> list[str]:
    """A command that runs a program until the thread that starts it ends.

    Args:
        program: The program and its arguments.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *program]


def main(arguments: list[str]) -> None:
    """Ties this process to its parent, then replaces it.

    Raises:
        OSError: The kernel refuses, or there is no such program.
    """
    parent, program = int(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # A parent that ended before that call has already given us to another.
    if os.getppid() == parent:
        os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
