"""All rules, the most basic first: the order in which they are checked and reported."""

from __future__ import annotations

from keras_npbatch.testing.rules import keras as keras_rules
from keras_npbatch.testing.rules import order as order_rules
from keras_npbatch.testing.rules import purity as purity_rules
from keras_npbatch.testing.rules import repetition as repetition_rules
from keras_npbatch.testing.rules import shard as shard_rules
from keras_npbatch.testing.rules import side_effect as side_effect_rules
from keras_npbatch.testing.rules import structure as structure_rules
from keras_npbatch.testing.rules import value as value_rules
from keras_npbatch.testing.rules import weight as weight_rules
from keras_npbatch.testing.rules import worker as worker_rules
from keras_npbatch.testing.rules.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    structure_rules.every_batch_can_be_read,
    structure_rules.batches_have_a_form_that_keras_takes,
    structure_rules.all_batches_have_one_structure,
    structure_rules.lengths_agree,
    structure_rules.len_is_the_number_of_batches,
    structure_rules.only_the_last_batch_is_short,
    value_rules.every_row_of_a_batch_is_filled,
    value_rules.values_are_finite,
    purity_rules.a_batch_is_the_same_when_read_again,
    purity_rules.a_batch_is_the_same_in_any_order,
    purity_rules.a_kept_batch_does_not_change,
    purity_rules.global_random_state_changes_nothing,
    side_effect_rules.global_generators_are_left_as_they_are,
    side_effect_rules.hooks_leave_the_data_as_they_are,
    purity_rules.threads_read_the_same_batches,
    purity_rules.iteration_gives_the_batches,
    worker_rules.it_can_be_sent_to_processes,
    worker_rules.processes_read_the_same_batches,
    order_rules.batches_differ,
    order_rules.every_sample_comes_once,
    order_rules.samples_keep_their_targets,
    order_rules.load_returns_the_rows_it_is_asked_for,
    order_rules.shuffling_changes_the_order,
    repetition_rules.the_seed_decides_the_order,
    repetition_rules.extra_hooks_change_nothing,
    repetition_rules.resuming_goes_on_at_every_step,
    shard_rules.shards_make_up_the_epoch,
    weight_rules.weights_have_the_axes_of_their_targets,
    keras_rules.keras_trains_one_step,
)
