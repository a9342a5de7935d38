"""One fraud in a hundred: train with and without balanced batches.

    KERAS_BACKEND=jax python examples/08_imbalanced.py        # or tensorflow, or torch

Prints how well each model ranks (average precision), and how far its probabilities are off.
"""

import argparse

import keras
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

# --- data: 20,000 payments, of which 1 in 100 is a fraud
x, is_fraud = make_classification(
    20_000, n_features=20, n_informative=6, n_clusters_per_class=3, weights=[0.99], random_state=1
)
data = npb.ArrayDataset(x.astype("float32"), is_fraud, batch_size=64, seed=0)
train, test = data.split(0.7, stratify=is_fraud)
rows, test_rows = train.rows_in_order(), test.rows_in_order()
print(f"frauds: {is_fraud[rows].mean():.2%} in training, {is_fraud[test_rows].mean():.2%} in test")

# --- the same rows with equal numbers of both classes in each batch
# An epoch has as many samples as before, so both models take the same number of steps.
sampler = npb.samplers.Balanced(is_fraud, num_samples=len(rows))
data = npb.ArrayDataset(x.astype("float32"), is_fraud, batch_size=64, seed=0, sampler=sampler)
balanced, _ = data.split(0.7, stratify=is_fraud)
frauds = [int(is_fraud[balanced.rows(step)].sum()) for step in range(4)]
print(f"frauds in the first balanced batches of 64: {frauds}")


def trained_on(dataset):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((20,)), keras.layers.Dense(32, activation="relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy")
    model.fit(dataset, epochs=arguments.epochs, verbose=0)
    return model.predict(test, verbose=0)[:, 0].astype("float64")


def report(name, predicted):
    precision = average_precision_score(is_fraud[test_rows], predicted)
    print(f"{name}: average precision {precision:.3f}, mean probability {predicted.mean():.2%}")


plain, of_balanced = trained_on(train), trained_on(balanced)
report("shuffled", plain)
report("balanced", of_balanced)

# --- a model that saw half frauds expects half frauds: put the real share back into the odds
# (C. Elkan, "The foundations of cost-sensitive learning", IJCAI 2001, theorem 2)
share = is_fraud[rows].mean()
odds = of_balanced / (1 - of_balanced + 1e-12) * share / (1 - share)
report("balanced, corrected", odds / (1 + odds))
