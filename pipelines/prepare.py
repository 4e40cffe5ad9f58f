"""`tfasr prepare`: a corpus to prepared data."""

from pipelines.progress import ProgressLine
from tfasr.audio.corpora import open_corpus
from tfasr.audio.utterance import SPLITS
from tfasr.configs.prepare import PrepareConfig
from tfasr.data.preparation import Preparation
from tfasr.data.prepared import PreparedData


def run(config: PrepareConfig) -> None:
    """Prepares a corpus, or goes on where it was interrupted."""
    preparation = Preparation(open_corpus(config), config)
    if preparation.is_done:
        print(f"{config.out}: already prepared")
    else:
        preparation.run(ProgressLine("prepare"))
    index = PreparedData(config.out).index
    for reason in index["skipped"]:
        print(f"skipped {reason}")
    for split in SPLITS:
        counts = index["splits"][split]
        print(f"{split}: {counts['utterances']} utterances, {counts['seconds'] / 60:.1f} min")
    if index["skipped"]:
        print(f"skipped: {len(index['skipped'])} entries, listed above and in data.json")
    if not index["splits"]["train"]["utterances"]:
        print(f"{config.out}: has no training split, so it can only be evaluated on")
