"""Several datasets as one, by what the model saw."""

from __future__ import annotations

import numpy as np

from keras_npbatch import ArrayDataset, concat, mix


def test_the_model_sees_each_sample_or_its_share(make_model, fit, data):
    x, y = data(50)
    parts = [ArrayDataset(x[:30], y[:30], seed=1), ArrayDataset(x[30:], y[30:], seed=2)]
    model = make_model(built=True)
    joined = concat(parts, batch_size=8, seed=3)
    expected = [
        [int(y[row]) for step in range(len(joined)) for row in joined.rows(step, epoch)]
        for epoch in range(2)
    ]
    assert fit(model, joined, epochs=2).epochs == expected
    assert sorted(expected[0]) == sorted(y.tolist())
    np.testing.assert_allclose(
        model.predict(joined, verbose=0), model.predict(x, verbose=0), rtol=1e-6
    )
    np.testing.assert_allclose(
        model.evaluate(joined, verbose=0)[0], model.evaluate(x, y, verbose=0)[0], rtol=1e-5
    )
    seen = fit(make_model(built=True), mix(parts, [3, 1], batch_size=8, seed=3), epochs=3)
    for epoch in seen.epochs:
        assert [np.isin(epoch[i : i + 8], y[:30]).sum() for i in range(0, 40, 8)] == [6] * 5
