"""A network's answers equal a plain forward pass, batch by batch or at once."""

import numpy as np
import pytest
import torch

from gleanet.core.errors import ModelError
from gleanet.core.records import Preprocess
from gleanet.data import to_input
from gleanet.train import predict
from gleanet.train.evaluate import accuracy
from tests.train.tiny import images, net

PIXELS = Preprocess()


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_predict_equals_one_forward_pass_in_evaluation_mode(batch_size: int) -> None:
    model, data = net(dropout=0.5), images(30)
    found = predict(model, data.images, PIXELS, batch_size)
    assert model.training
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(to_input(data.pixels, PIXELS))).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_images_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(ModelError, match=r"does not accept images of shape \[3, 6, 6\]") as caught:
        predict(net(), images(side=6).images, PIXELS)
    assert "\n" not in str(caught.value)


def test_accuracy() -> None:
    logits = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    assert accuracy(logits, np.array([0, 1, 0])) == pytest.approx(2 / 3)
