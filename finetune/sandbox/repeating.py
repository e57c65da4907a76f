"""A net with drawn weights learns to repeat what it has read. It then stands in for a published model, which can.

The names of a post are copied into the answer. A net that cannot copy learns the answer's form from thousands of posts,
and not one name. Repeating random tokens teaches it in a minute what it would take from the posts in hours.
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim import AdamW

from namepin.finetune.sandbox.qwen_vl import SPECIAL, VISION
from namepin.tools.loading.config import Placement
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.models.qwen_vl import load_processor, load_qwen_vl

ROWS, SHORTEST, LONGEST = 64, 6, 12
"""Rows of a batch, and bounds of the number of tokens to repeat."""

RATE, WARM, LEAST_SHARE = 4e-3, 50, 0.1
"""Peak learning rate, steps until it is reached, and its share at the end."""


def teach_to_repeat(folder: Path, seed: int, steps: int) -> float:
    """Train the language model in a folder on random tokens that come twice; only the second time has a loss.

    Returns:
        The last batch's loss, per token.
    """
    net: Any = load_qwen_vl(Placement(device="cpu", dtype="float32"), folder).float().requires_grad_(True).train()
    tokenizer: Any = load_processor(folder, net.config.text_config.vocab_size).tokenizer
    special = {tokenizer.convert_tokens_to_ids(name) for name in (*SPECIAL, *VISION)}
    usable = torch.tensor([number for number in range(len(tokenizer)) if number not in special])
    reader, head = net.model.language_model, net.lm_head
    weights = [*reader.parameters(), *head.parameters()]
    optimizer = AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    drawn = torch.Generator().manual_seed(seed)
    last = float("nan")
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM) * (1 - (1 - LEAST_SHARE) * step / steps)
        length = int(torch.randint(SHORTEST, LONGEST + 1, (1,), generator=drawn))
        once = usable[torch.randint(len(usable), (ROWS, length), generator=drawn)]
        twice = torch.cat([once, once], 1)
        states = reader(input_ids=twice, use_cache=False).last_hidden_state[:, length:-1]
        loss = F.cross_entropy(head(states).flatten(0, 1), twice[:, length + 1 :].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        last = loss.item()
    with quiet_transformers():
        net.save_pretrained(folder)
    return last
