"""A chat model small enough to be trained inside a test, and a real server for it: `transformers serve`."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from namepin.finetune.sandbox.qwen_vl import byte_tokenizer
from support.forked import Forked
from support.processes import free_port
from support.waiting import wait_until

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy")

Dialogue = tuple[Sequence[Mapping[str, str]], str]
"""A conversation as `{"role", "content"}` messages, and the reply to learn."""


def train(folder: Path, dialogues: Sequence[Dialogue], *, max_steps: int = 600) -> int:
    """Train a two-layer Llama until it gives every reply by heart, save it, and return the steps it took."""
    tokenizer = byte_tokenizer(
        [text for messages, reply in dialogues for text in (*(m["content"] for m in messages), reply)]
    )
    tokenizer.chat_template = TEMPLATE
    rows = [
        (tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False),
         tokenizer(reply + "<|end|>", add_special_tokens=False)["input_ids"])
        for messages, reply in dialogues
    ]  # fmt: skip
    longest = max(len(query) + len(reply) for query, reply in rows)
    inputs = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(inputs, -100)
    for i, (query, reply) in enumerate(rows):
        inputs[i, : len(query) + len(reply)] = torch.tensor(query + reply)
        labels[i, len(query) : len(query) + len(reply)] = torch.tensor(reply)

    torch.manual_seed(0)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            pad_token_id=0,
            bos_token_id=end,
            eos_token_id=end,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps, loss, taught = 0, float("inf"), labels[:, 1:] != -100
    while loss > 0.01 and steps < max_steps:
        states = model.model(input_ids=inputs).last_hidden_state[:, :-1]
        # The vocabulary's logits are most of the work: they are computed for the replies alone.
        error = torch.nn.functional.cross_entropy(model.lm_head(states[taught]), labels[:, 1:][taught])
        error.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps, loss = steps + 1, error.item()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return steps


@contextmanager
def serve(model: Path) -> Iterator[str]:
    """Run `transformers serve` on a free port of 127.0.0.1, offline; the base URL, once the server is healthy."""
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if name.lower() not in PROXIES and name != "OPENAI_API_KEY"
    } | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HOME": str(model / "hf"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = Forked(_transformers, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), env=environment)
    try:
        _await_health(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def _transformers(*arguments: str) -> None:
    from huggingface_hub import constants
    from transformers.cli.transformers import main

    # It was imported before this process had its environment.
    constants.HF_HUB_OFFLINE = True
    sys.argv = ["transformers", *arguments]
    main()


def _await_health(url: str, process: Forked) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def healthy() -> bool:
        assert process.poll() is None, f"transformers serve did not start:\n{process.log.read_text()[-2000:]}"
        try:
            with direct.open(url) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    wait_until(healthy, "transformers serve is healthy")
