import pytest
import torch
from torch.nn import functional as F

from scmimic.module import ACTINNModule, labelled_cross_entropy
from scmimic.nn import ACTINNClassifier

LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [5.0, 0.0, 0.0]])
# a label beyond the logits is that of a cell of no known type
LABELS = torch.tensor([0, 2, 2, 3])


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_unlabelled_cells_do_not_count(weights):
    loss, accuracy, n = labelled_cross_entropy(LOGITS.clone().requires_grad_(), LABELS, weights)
    share = torch.ones(3) if weights is None else weights[LABELS[:3]]
    each = -LOGITS[:3].log_softmax(1)[torch.arange(3), LABELS[:3]]
    torch.testing.assert_close(loss.detach(), (share * each).sum() / share.sum())
    assert (accuracy.item(), n) == (pytest.approx(2 / 3), 3)


def test_without_labelled_cells_the_loss_is_zero_with_a_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss, _, n = labelled_cross_entropy(logits, torch.full((4,), 3))
    loss.backward()
    assert (loss.item(), n) == (0, 0)
    assert (logits.grad == 0).all()


def test_loss_of_a_batch():
    torch.manual_seed(0)
    module = ACTINNModule(ACTINNClassifier(5, 3)).eval()
    tensors = {"X": torch.rand(4, 5), "labels": LABELS[:, None]}
    _, _, found = module(tensors)
    logits = module.classifier(tensors["X"])[:3]
    torch.testing.assert_close(found.loss, F.cross_entropy(logits, LABELS[:3]))
    assert found.n_obs_minibatch == 3
    expected = (logits.argmax(1) == LABELS[:3]).float().mean().item()
    assert found.extra_metrics["accuracy"].item() == pytest.approx(expected)
    # an epoch's accuracy is over labelled cells: a batch without one says nothing
    _, _, none = module({"X": torch.rand(2, 5), "labels": torch.full((2, 1), 3)})
    assert none.extra_metrics == {}
