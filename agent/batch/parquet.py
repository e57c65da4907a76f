"""The results of a batch as one Parquet file, for work with tables."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from namepin.agent.batch.finished import PREDICTIONS
from namepin.agent.batch.out_folder import TABLE
from namepin.tools.errors import Exit, NamepinError, install_command
from namepin.tools.files import atomic_path
from namepin.tools.jsonl import parse_json

_GROUP = 1000
"""Number of rows per row group, which are in memory at a time."""


def write_parquet(folder: Path) -> Path:
    """Write `predictions.parquet` beside `predictions.jsonl`, in its order, and replace an older one.

    The most used columns are typed: `id`, `text`, `status`, `image`, `entities` (a list of structs: `text`, `start`,
    `end`, `label`, `fine_label`, `type_uncertain`, `groundable`, `match_score`, `box`). The column `json` has
    the whole result.

    Raises:
        NamepinError: E301 without pyarrow, E500 when it cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        mend = install_command("namepin[scale]")
        what = "Parquet needs the package 'pyarrow'"
        raise NamepinError("E301", what, mend=mend, exit_code=Exit.UNREACHABLE) from error
    entity = pa.struct(
        {
            "text": pa.string(),
            "start": pa.int64(),
            "end": pa.int64(),
            "label": pa.string(),
            "fine_label": pa.string(),
            "type_uncertain": pa.bool_(),
            "groundable": pa.bool_(),
            "match_score": pa.float64(),
            "box": pa.list_(pa.float64()),
        }
    )
    schema = pa.schema(
        {
            "id": pa.string(),
            "text": pa.string(),
            "status": pa.string(),
            "image": pa.string(),
            "entities": pa.list_(entity),
            "json": pa.large_string(),
        }
    )
    try:
        with (
            (folder / PREDICTIONS).open(encoding="utf-8", newline="\n") as lines,
            atomic_path(folder / TABLE) as part,
            parquet.ParquetWriter(part, schema) as writer,
        ):
            rows = _rows(lines, entity)
            while group := list(islice(rows, _GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
    except OSError as error:
        mend = "make room; the same command writes it again"
        raise NamepinError("E500", f"cannot write the table: {error}", where=str(folder), mend=mend) from error
    return folder / TABLE


def _rows(lines: Iterator[str], entity: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        row = parse_json(line)
        image = row.get("image")
        yield {
            "id": row["id"],
            "text": row["text"],
            "status": row["status"],
            "image": image["sha256"] if image else None,
            "entities": [{field.name: one.get(field.name) for field in entity} for one in row["entities"]],
            "json": line.rstrip("\n"),
        }
