"""SAM 2 on single pictures, from transformers folders (Apache-2.0, code and weights).

The interface is SAM's. SAM 2 squashes a picture to a square instead of padding it. transformers' own processor needs
torchvision, so this module has its own pre- and post-processing.
"""

from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.nn import functional

from namepin.tools.images.tensors import imagenet
from namepin.tools.loading.pretrained import another_model, identity, load_folder, read_json, shared_model
from namepin.tools.models.config import Sam2Config
from namepin.tools.models.sam import Sam
from namepin.tools.models.sam_checkpoint import SamCheckpoint

_MEND = "take a SAM 2 checkpoint in transformers' form, such as facebook/sam2.1-hiera-large"


class Sam2(Sam):
    """A loaded SAM 2, safe for several threads."""

    @property
    def side(self) -> int:
        """Side of the net's square input, in pixels."""
        return int(self._net.config.prompt_encoder_config.image_size)

    def full_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Mask logits, (masks, h, w), at the size (width, height) of the picture: (masks, height, width)."""
        return functional.interpolate(logits[None], (size[1], size[0]), mode="bilinear", align_corners=False)[0]

    def _fit(self, image: Image.Image) -> Tensor:
        return imagenet(image.resize((self.side, self.side), Image.Resampling.BILINEAR))

    def _frame(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.side, self.side


def shared_sam2(config: Sam2Config) -> Sam2:
    """The SAM 2 of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E216, see `namepin.tools.loading.pretrained`.
    """
    return shared_model(config, _load)


def _load(config: Sam2Config, path: Path, sha256: str) -> Sam2:
    from transformers import Sam2Model

    if not path.is_dir():
        raise another_model("SAM 2's original files are not read", str(path), _MEND)
    # The published folders hold the video model, whose memory a single picture does not need.
    kind = read_json(path / "config.json").get("model_type")
    net: Any = load_folder(Sam2Model, path, kind="sam2_video" if kind == "sam2_video" else "sam2", mend=_MEND)
    return Sam2(config, SamCheckpoint(net, identity(sha256, net)))
