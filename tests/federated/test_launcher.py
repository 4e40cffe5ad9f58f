import os
import subprocess
import sys

from tfasr.federated import launcher


def launch(parent):
    command = [sys.executable, launcher.__file__, str(parent), "/bin/echo", "launched"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_becomes_the_program():
    assert launch(os.getpid()) == "launched\n"


def test_a_child_whose_parent_has_ended_starts_nothing():
    assert launch(os.getppid()) == ""
