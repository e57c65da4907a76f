"""Turn a language model's GGUF file into a transformers folder, such as `reranker.weights` names.

    python -m namepin.tools.loading.convert_gguf FILE OUT

Quantised weights are expanded to float32. The tokenizer and its chat template are the file's own.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from namepin.tools.errors import NamepinError, first_line, install_command
from namepin.tools.loading.pretrained import check_names
from namepin.tools.loading.quiet import quiet_transformers

_MAGIC = b"GGUF"


def convert(source: Path, out: Path) -> str:
    """Write the model of `source` to the folder `out`.

    Returns:
        The model's class in transformers.

    Raises:
        NamepinError: E210 no such file, E211 damaged or of a kind that transformers does not read, E212 not a GGUF
            file or not all tensors of a language model, E301 without the package `gguf`.
    """
    if not source.is_file():
        raise NamepinError("E210", "no such file", where=str(source), mend="give a GGUF file")
    with source.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise NamepinError("E212", "not a GGUF file", where=str(source), mend="give a GGUF file")
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise NamepinError("E301", "GGUF files need the package gguf", mend=install_command("namepin[gguf]")) from error
    with quiet_transformers():
        read, tokenizer = _read(source)
        del read.config.quantization_config  # transformers would not save it
        net = type(read)(read.config)
        net.load_state_dict(read.state_dict())
        net.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return type(net).__name__


def _read(source: Path) -> tuple[Any, Any]:
    import transformers

    reader: Any = transformers.AutoModelForCausalLM
    named: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    try:
        net, report = reader.from_pretrained(source.parent, output_loading_info=True, **named)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, **named)
    except Exception as error:  # transformers' reader checks little: a damaged file ends in any of Python's errors
        what = f"damaged, or a model that transformers does not read: {first_line(error)}"
        mend = "fetch the file again, or take another decoder-only language model"
        raise NamepinError("E211", what, where=str(source), mend=mend) from error
    # transformers would draw a missing tensor at random.
    check_names(set(report["missing_keys"]), set(report["unexpected_keys"]), str(source), "take another file")
    return net, tokenizer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m namepin.tools.loading.convert_gguf", description=__doc__.splitlines()[0]
    )
    parser.add_argument("source", type=Path, help="GGUF file")
    parser.add_argument("out", type=Path, help="the model's new folder")
    given = parser.parse_args(arguments)
    try:
        kind = convert(given.source, given.out)
    except NamepinError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print(f"{given.out}: {kind} in float32; use it with --set reranker.weights={given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
