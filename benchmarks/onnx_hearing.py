"""The same graph in ONNX Runtime: a worker of `benchmarks.inference`, in an environment of its own.

FOLDER FILE THREADS CALLS NAME
"""

import sys
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from benchmarks.peer_hearing import answer_hearing


def main() -> None:
    """Answers with the hearing of a case."""
    folder, file, threads, calls, name = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads) // int(calls)
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    [given] = session.get_inputs()

    def symbols(waveforms: NDArray[Any]) -> NDArray[Any]:
        best: NDArray[Any] = session.run(None, {given.name: waveforms})[0]
        return best

    answer_hearing(Path(folder), name, symbols, int(calls))


if __name__ == "__main__":
    main()
