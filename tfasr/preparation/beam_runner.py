"""Writes shards by Apache Beam, an extra; all workers must see the folder of the data."""

import io
import pickle
import shutil
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner, PipelineState, create_runner

from tfasr.artifacts.files import atomic_path
from tfasr.configs.loading import one_line
from tfasr.preparation.shard_tasks import ShardTask
from tfasr.preparation.shard_writing import write_task

# Beam's own DirectRunner first tries to download another runner; this is what it would run.
_IN_MEMORY = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
_TASK, _FAILURE = ".task", ".failure"


class BeamRunner:
    """Writes shards as the elements of a Beam pipeline.

    Tasks and failures go through files: a pipeline that held all utterances would be too large
    to submit, and a failure would come back as a traceback through the runner.

    Args:
        name: A runner of Beam's, or the full name of a class; "DirectRunner" is Beam's own
            in-memory runner.
        options: Of the pipeline, such as "--direct_num_workers=4".

    Raises:
        ValueError: There is no such runner, or an option has a wrong value.
    """

    def __init__(self, name: str, options: Sequence[str]) -> None:
        self.name = name
        said = io.StringIO()
        try:
            # Beam's parser tells all of its options, then what is wrong, and ends the process.
            with redirect_stderr(said):
                self._options = PipelineOptions(list(options))
                self._options.get_all_options()
        except SystemExit:
            reason = "".join(said.getvalue().splitlines()[-1:]).rpartition("error: ")[2]
            raise ValueError(
                f"runner_options must be options of Beam; got {' '.join(options)}: {reason}"
            ) from None
        self._runner = _runner_of(name)

    def __call__(self, tasks: Sequence[ShardTask]) -> Iterator[ShardTask]:
        """Writes shards and yields their tasks when all are written.

        Raises:
            ValueError: As for `write_task`: the first in the order of the tasks; or the
                pipeline failed.
            OSError: As for `write_task`.
        """
        if not tasks:
            return
        folder = tasks[0].folder.absolute() / "tasks"
        shutil.rmtree(folder, ignore_errors=True)
        files = [_pickled(task, folder / f"{task.name}{_TASK}") for task in tasks]
        told = self._run(list(map(str, files)))
        for task, file in zip(tasks, files, strict=True):
            failure = file.with_suffix(_FAILURE)
            if failure.is_file():
                raise pickle.loads(failure.read_bytes())
            if not task.is_written:
                raise ValueError(f"{self.name}: must write {task.sidecar}; the pipeline {told}")
        shutil.rmtree(folder)
        yield from tasks

    def _run(self, files: list[str]) -> str:
        """Runs the pipeline to its end, and tells what became of it."""
        pipeline = beam.Pipeline(runner=self._runner, options=self._options)
        # Shuffled, as else all may stay on the worker that made the list.
        _ = pipeline | beam.Create(files) | beam.Reshuffle() | beam.Map(_write)
        try:
            state = pipeline.run().wait_until_finish()
        # Each runner has errors of its own.
        except Exception as error:
            return f"failed: {one_line(error)[:300]}"
        return "says that it is done" if state == PipelineState.DONE else f"is {state}"


def _runner_of(name: str) -> PipelineRunner:
    try:
        return create_runner(_IN_MEMORY if name == "DirectRunner" else name)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"runner must be one of Beam's; got {name}: {one_line(error)}") from None


def _pickled(value: ShardTask | Exception, file: Path) -> Path:
    with atomic_path(file) as staged:
        staged.write_bytes(pickle.dumps(value))
    return file


def _write(name: str) -> None:
    """Does the task of a file; what can't be mended by trying again is written beside it."""
    file = Path(name)
    try:
        write_task(pickle.loads(file.read_bytes()))
    except (ValueError, OSError) as error:
        _pickled(error, file.with_suffix(_FAILURE))
