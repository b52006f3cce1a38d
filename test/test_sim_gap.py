# SPDX-License-Identifier: Apache-2.0
"""The gap between simulation and reality: none between equals, plain where there is one."""

from mmperception.cli.suites import sim_gap
from mmperception.evaluation.sim_gap import classifier_accuracy, Crop, sim_gap_metrics
import numpy as np
import pytest


def make_crops(number, seed, num_points=lambda range_m: 40_000 / range_m**2, top=0.5):
    """Return vehicles whose points fill their box evenly up to `top` of its half height."""
    rng = np.random.default_rng(seed)
    crops = []
    for k in range(number):
        range_m = rng.uniform(6, 40)
        size = np.array((4.2, 1.7, 1.5)) * rng.uniform(0.95, 1.05, 3)
        count = max(int(num_points(range_m)), 10)
        local = rng.uniform((-0.5, -0.5, -0.5), (0.5, 0.5, top), (count, 3)) * size
        crops.append(
            Crop(local=local, intensity=rng.random(count), size=size, range_m=range_m,
                 group=f'{seed}/{k}')
        )  # fmt: skip
    return crops


def test_equal_vehicles_have_ratio_one_and_cannot_be_told_apart():
    metrics = sim_gap_metrics(make_crops(150, 1), make_crops(150, 2))
    for name in ('points_ratio_10m', 'points_ratio_20m', 'points_ratio_30m', 'length_ratio'):
        assert metrics[name].value == pytest.approx(1.0, abs=0.3), name
    assert metrics['classifier_accuracy'].value == pytest.approx(50, abs=12)
    assert metrics['classifier_accuracy'].count == 300


def test_twice_the_points_are_a_ratio_of_two():
    dense = make_crops(150, 1, lambda range_m: 80_000 / range_m**2)
    metrics = sim_gap_metrics(make_crops(150, 2), dense)
    assert metrics['points_ratio_20m'].value == pytest.approx(2.0, rel=0.3)


def test_vehicles_without_a_roof_are_recognised():
    accuracy, _ = classifier_accuracy(make_crops(100, 1), make_crops(100, 2, top=0.1))
    assert accuracy > 95


def test_views_of_one_object_never_help_to_recognise_it():
    # Ten objects seen 20 times each, both sides alike: memorising an object must not pay.
    def views(seed):
        return [
            Crop(local=c.local, intensity=c.intensity, size=c.size, range_m=c.range_m,
                 group=c.group)
            for c in make_crops(10, seed) for _ in range(20)
        ]  # fmt: skip

    accuracy, _ = classifier_accuracy(views(1), views(2))
    assert accuracy < 80


def test_too_few_vehicles_are_an_error_that_counts_them():
    with pytest.raises(ValueError, match='3 real and 40 simulated'):
        sim_gap_metrics(make_crops(3, 1), make_crops(40, 2))


def test_the_drive_that_gives_figures_is_refused():
    with pytest.raises(ValueError, match='gives figures only'):
        sim_gap(['2011_09_26_drive_0005_sync'], [])
    with pytest.raises(ValueError, match='gives figures only'):
        sim_gap(['2011_09_26_drive_0009_sync', '2011_09_26_drive_0005_sync'], [])
