"""An OpenAI-compatible chat server in a process of its own: its answers depend on the post alone.

`python llm_process.py PORT [--garbage SHARE] [--always SHARE]`: the first gets an unusable first answer, the second
nothing but unusable ones. Each question's post is written to standard output.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.loopback import JsonHandler, completion


class Handler(JsonHandler):
    """Answers with an explanation that names the post."""

    def do_POST(self) -> None:
        messages = json.loads(self.body())["messages"]
        asked = [m["content"] for m in messages if m["role"] == "user" and "<post>" in m["content"]][-1]
        post = re.findall("<post>(.*?)</post>", asked, re.DOTALL)[-1]
        print(post, flush=True)
        chance = hashlib.sha256(post.encode()).digest()[0] / 256
        repaired = "cannot be used" in messages[-1]["content"]
        garbage, always = self.server.shares  # type: ignore[attr-defined]  # set below
        said = json.dumps({"explanation": f"Oslo is a city; the post says {post}."})
        if chance < always or (chance < garbage and not repaired):
            said = "�}{ as an AI" + "x" * 50
        self.answer(completion(said))


def start(*flags: str) -> "tuple[subprocess.Popen[str], str]":
    """The server as a child, once it listens; and its address."""
    process: Any = subprocess.Popen([sys.executable, __file__, *flags], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--garbage", type=float, default=0.0)
    parser.add_argument("--always", type=float, default=0.0)
    flags = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.shares = flags.garbage, flags.always  # type: ignore[attr-defined]  # for the handler
        print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
