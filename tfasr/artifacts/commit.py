"""Which commit of the source made an artefact."""

import subprocess
from pathlib import Path

import tfasr

_ROOT = Path(tfasr.__file__).parents[1]


def source_commit(root: Path = _ROOT) -> str:
    """Names the commit that a source tree is at.

    Args:
        root: Of the working tree; of this package's own where it is not given.

    Returns:
        The first characters of its hash, with "-dirty" behind them where tracked files differ
        from it; "" where the folder is not the root of a working tree, as an installed package's
        is not, or there is no git.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or not root.samefile(top):
        return ""
    return _git(root, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()
