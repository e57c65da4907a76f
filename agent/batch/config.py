"""What a batch keeps between runs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tools.types import Frozen


class BatchSettings(Frozen):
    """`[batch]` of a profile: `--set batch.cache=true`. Nothing here changes what a post's result is.

    Attributes:
        cache: whether results of whole posts are kept on this machine's disk, and used again where an equal post comes
            in a later run. Off by default: the file then holds posts, which else stay in input and output alone.
        cache_mb: bound of that file; the results unused longest go first.
        cache_dir: its folder; None for `posts` within NAMEPIN_CACHE_DIR, else within the platform's cache folder.
    """

    cache: bool = False
    cache_mb: Annotated[int, Field(gt=0)] = 1024
    cache_dir: Path | None = None
