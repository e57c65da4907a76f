"""The whole SeqTR."""

from torch import Tensor, nn

from namepin.tools.nets.seqtr.encoders import Fusion, SentenceEncoder, VisionEncoder
from namepin.tools.nets.seqtr.sizes import Memory, SeqtrSizes, TokenSequences
from namepin.tools.nets.seqtr.transformer import Head, Pen


class Seqtr(nn.Module):
    """The whole net; see the package's docstring."""

    def __init__(self, sizes: SeqtrSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.vis_enc = VisionEncoder(sizes.base, sizes.blocks)
        self.lan_enc = SentenceEncoder(sizes.words, sizes.word_width, sizes.channels)
        self.fusion = Fusion(sizes.base)
        self.head = Head(sizes)

    def look(self, pixels: Tensor) -> Tensor:
        """Pictures (n, 3, h, w), RGB from 0 to 255, sides multiples of 32 -> (n, channels, h / 32, w / 32)."""
        result: Tensor = self.fusion(self.vis_enc(pixels))
        return result

    def read(self, picture: Tensor, ids: Tensor) -> Memory:
        """One picture's features (1, channels, h, w) and n sentences (n, words) -> input of the decoder's attention."""
        sentences = self.lan_enc(ids).tanh()[..., None, None]
        return self.head.transformer.remember(*self.head.transformer.encode(picture * sentences))

    def write(self, memory: Memory) -> tuple[TokenSequences | None, TokenSequences | None]:
        """A box's four tokens and an outline's tokens, as far as the weights generate them.

        An outline's tokens after its first end token have no meaning.
        """
        sizes, pen = self.sizes, Pen(self.head, memory)
        keys = memory.layers[0][0]
        if not sizes.tasks:
            start = keys.new_zeros(len(keys), sizes.width)
            if sizes.corners:
                return None, pen.greedy(start, 2 * sizes.corners + 1, 0)
            return pen.greedy(start, 4, 4), None
        box_task, outline_task = self.head.task_embedding.weight[:, None].expand(2, len(keys), -1)
        box = pen.greedy(box_task, 4, 4)
        pen.write(self.head.transformer.query_embedding(box.tokens[:, -1]))  # the outline follows the whole box
        return box, pen.greedy(outline_task, 2 * sizes.corners + 1, 4)
