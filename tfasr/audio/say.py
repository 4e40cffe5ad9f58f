"""Writes a sentence that espeak-ng speaks: `python -m tfasr.audio.say "three seven one" FILE`."""

import sys
from pathlib import Path

from tfasr.audio.decoding import write_wav
from tfasr.audio.espeak import SAMPLE_RATE, Sentence, speak


def main() -> None:
    """Writes the file: WAV of 16 bits at espeak-ng's own rate.

    Raises:
        SystemExit: espeak-ng is not installed, or there is nothing to say.
    """
    if len(sys.argv) != 3:
        raise SystemExit(
            'python -m tfasr.audio.say must be given a sentence and a file: "hello" a.wav'
        )
    text, path = sys.argv[1], Path(sys.argv[2])
    sentence = Sentence(sentence_id=str(path), text=text, accent="en-us", variant="m1", rate=140)
    try:
        [samples] = speak([sentence], jobs=1)
    except (ModuleNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, samples, SAMPLE_RATE)
    print(f"{path}: {text}")


if __name__ == "__main__":
    main()
