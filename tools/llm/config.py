"""Settings of a chat model. Every role with a chat model extends them."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from namepin.tools.llm.box_frames import Frame, frame_of
from namepin.tools.types import Frozen

OPENAI = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
THOUGHTS = "thoughts"
"""The message field for a model's thoughts, which a server separates from the answer (`reasoning_content`)."""


class ChatConfig(Frozen):
    """The server of a chat model, and its sampling. Without `model` the tool is off.

    One question takes at most `(retries + 1) * timeout_s + retries * backoff_max_s` seconds. If all servers are down
    (`namepin.tools.llm.servers`), questions fail at once for a while. The key comes only from the environment variable
    OPENAI_API_KEY; without it, your own server gets a placeholder.
    """

    model: Annotated[str, Field(min_length=1)] | None = None
    base_url: str | None = None
    """The server's address up to its version, as in `http://127.0.0.1:8000/v1`; None is OpenAI's."""
    servers: tuple[str, ...] = ()
    """Further addresses of the same model. A question goes to the one with the fewest open questions, see
    `namepin.tools.llm.servers`."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Wall-clock bound of one attempt, connection to last byte."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    backoff_s: Annotated[float, Field(ge=0)] = 0.5
    """Seconds before the first retry; doubled at each further one, minus up to half of it at random (jitter)."""
    backoff_max_s: Annotated[float, Field(ge=0)] = 30.0
    """The longest wait. A server whose `Retry-After` asks for more counts as down."""
    max_tokens: Annotated[int, Field(gt=0)] = 512
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """None leaves it to the server; some models accept only their default."""
    seed: int | None = None
    json_mode: bool = False
    """Ask for `response_format: json_object`; the server must support it."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4

    @property
    def enabled(self) -> bool:
        """Whether a model is configured."""
        return self.model is not None

    @model_validator(mode="after")
    def _addresses_are_usable(self) -> Self:
        if self.servers and self.base_url is None:
            raise ValueError("`servers` is set, but `base_url` is not")
        if self.base_url is None:
            return self
        if self.model is None:
            raise ValueError("`base_url` is set, but `model` is not")
        _check_address("base_url", self.base_url)
        for address in self.servers:
            _check_address("servers", address)
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of all servers, each once."""
        return tuple(dict.fromkeys((self.base_url or OPENAI, *self.servers)))


class CachedChatConfig(ChatConfig):
    """A chat model whose answers are cached on disk."""

    cache: bool = True
    cache_dir: Path | None = None
    """None: NAMEPIN_CACHE_DIR, or the user's cache folder."""
    cache_mb: Annotated[int, Field(ge=1)] = 64


class BoxChatConfig(CachedChatConfig):
    """A chat model that writes boxes: its coordinates, and its input."""

    frame: Frame | None = None
    """The unit of the model's coordinates. None: by its name, pixels for Qwen2.5-VL, thousandths for Qwen3-VL."""
    factor: Annotated[int, Field(ge=1, le=256)] | None = None
    """The picture's sides are multiples of this; None is 28 for pixels (Qwen2.5-VL) and 32 for others."""
    min_pixels: Annotated[int, Field(ge=1024)] = 65_536
    """A smaller picture is enlarged to this many pixels."""
    max_pixels: Annotated[int, Field(ge=65_536, le=12_000_000)] = 1_000_000
    """A larger one is scaled down. The server must accept this size, else it resizes and shifts the coordinates."""
    max_post: Annotated[int, Field(ge=100)] = 2000
    """Largest number of characters of the post in the prompt; the rest is cut."""
    max_expression: Annotated[int, Field(ge=100)] = 500
    """Largest number of characters of an expression in the prompt; the rest is cut."""

    @model_validator(mode="after")
    def _counts_are_known(self) -> Self:
        if self.model is not None and self.frame is None and frame_of(self.model) is None:
            raise ValueError(
                f"how {self.model!r} counts does not follow from its name: set `frame` to pixels (of the picture, as "
                "Qwen2.5-VL), thousand (thousandths of its sides, as Qwen3-VL) or unit (fractions of them)"
            )
        return self

    @property
    def counts(self) -> Frame:
        """The frame, by setting or by name."""
        return self.frame or frame_of(self.model or "") or "thousand"

    @property
    def multiple(self) -> int:
        """The sides of the sent picture are multiples of it."""
        return self.factor or (28 if self.counts == "pixels" else 32)


def _check_address(name: str, address: str) -> None:
    # The messages do not show the address: it may hold a password.
    try:
        url = urlsplit(address)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"`{name}` must be an http:// or https:// address, as http://127.0.0.1:8000/v1")
    if url.username or url.password or url.query:
        raise ValueError(f"`{name}` must not carry a user, password or query: put the key into {KEY_VARIABLE}")
