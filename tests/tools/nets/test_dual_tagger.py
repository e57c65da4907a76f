"""The dual-path net: equations 8-10, and the gradient flow between its paths."""

import pytest
import torch
from transformers import BertConfig, BertModel

from namepin.tools.nets.dual_tagger import DualTaggerNet, TaggerBatch, pooled_scores, transition_matrix


def tiny_net(fine_types: int = 5, beta: float = 0.1, shapes: bool = True, chars: bool = True) -> DualTaggerNet:
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )
    return DualTaggerNet(
        encoder, 2, fine_types, beta=beta, dropout=0.0, bio_constraint=True,
        shapes=(4, 3) if shapes else (), chars=30 if chars else 0, char_width=8,
    ).eval()  # fmt: skip


def random_batch(rows: int = 2, pieces: int = 9, words: int = 5) -> TaggerBatch:
    torch.manual_seed(1)
    return TaggerBatch(
        torch.randint(0, 50, (rows, pieces)),
        torch.ones(rows, pieces, dtype=torch.bool),
        torch.stack([torch.randint(0, 4, (rows, pieces)), torch.randint(0, 3, (rows, pieces))], 2),
        torch.randint(0, pieces, (rows, words)),
        torch.ones(rows, words, dtype=torch.bool),
        torch.randint(0, 30, (rows, words, 6)),
    )


def test_dual_tagger_fine_logits_equal_equation_9() -> None:
    net, batch = tiny_net(beta=0.3), random_batch()
    with torch.no_grad():
        net.transition.normal_()
    words = net.encode(batch)
    assert net.fine is not None
    coarse, own = net.coarse(words), net.fine(words)
    logits = net(batch)
    for b in range(2):
        for w in range(5):
            expected = 0.3 * (net.transition.t() @ coarse[b, w]) + 0.7 * own[b, w]
            assert logits.fine is not None and torch.allclose(logits.fine[b, w], expected, atol=1e-5)
    assert torch.equal(logits.coarse, coarse)


def test_dual_tagger_paths_share_no_parameters() -> None:
    net, batch = tiny_net(beta=0.0), random_batch()
    logits = net(batch)
    assert logits.fine is not None
    logits.fine.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.coarse.parameters())


def test_dual_tagger_of_single_path_has_no_fine_logits() -> None:
    net = tiny_net(fine_types=0)
    assert net(random_batch()).fine is None
    assert "transition" not in dict(net.named_parameters())


def test_dual_tagger_new_shape_vectors_leave_encoding_unchanged() -> None:
    batch = random_batch()
    assert torch.equal(tiny_net(shapes=True).encode(batch)[:, :, :16], tiny_net(shapes=False).encode(batch)[:, :, :16])


def test_dual_tagger_logits_depend_on_letters_and_shapes() -> None:
    net, batch = tiny_net(), random_batch()
    with torch.no_grad():
        for table in net.shapes:
            table.weight.normal_()
    before = net(batch).coarse
    for changed in (
        TaggerBatch(**{**vars(batch), "piece_shapes": batch.piece_shapes * 0}),
        TaggerBatch(**{**vars(batch), "word_chars": batch.word_chars * 0}),
    ):
        assert not torch.allclose(net(changed).coarse, before)


def test_transition_matrix_is_normalised_by_fine_tag() -> None:
    matrix = transition_matrix(torch.tensor([[3, 0, 0], [1, 5, 0]]))
    assert torch.allclose(matrix, torch.tensor([[0.75, 0.0, 0.0], [0.25, 1.0, 0.0]]))


def test_transition_matrix_by_row_keeps_the_counts_of_a_tree() -> None:
    tree = torch.tensor([[3, 1, 0, 0], [0, 0, 9, 1]])
    by_row = torch.tensor([[0.75, 0.25, 0.0, 0.0], [0.0, 0.0, 0.9, 0.1]])
    assert torch.allclose(transition_matrix(tree, "row"), by_row)
    assert set(transition_matrix(tree).flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("merge", ["logsumexp", "sum", "mean"])
def test_pooled_scores_equal_equation_10(merge: str) -> None:
    logits = torch.tensor([[9.0, 1.0, 2.0, 0.0, 0.5], [9.0, 3.0, 0.0, 1.0, 0.5]])
    mean = logits.mean(0)
    first, second = mean[1:3], mean[3:5]
    join = {"logsumexp": lambda x: x.exp().sum().log(), "sum": torch.sum, "mean": torch.mean}[merge]
    expected = torch.stack([join(first), join(second)]).softmax(0)
    assert torch.allclose(pooled_scores(logits.mean(0), merge), expected)
