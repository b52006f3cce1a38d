# SPDX-License-Identifier: Apache-2.0
"""
`summary.json` of a replay: what went in, what came out, what was dropped and why, how long.

The keys are a promise to the outside (docs/interfaces.md).
"""

from collections import Counter, defaultdict
import re

from mmperception.datatypes import CLASSES
import numpy as np

COUNTS = ('sweeps_in', 'sweeps_processed', 'pivots_in', 'pivots_processed')


def summarize(observer, config):
    """
    Return the contents of `summary.json`.

    Parameters
    ----------
    observer : Observer
        After the last report of the nodes.
    config : Config
        What the nodes ran with.

    Returns
    -------
    dict

    """
    counts = observer.counts()
    pipeline = observer.statuses.get('perception: pipeline', {})
    return {
        **{key: counts.get(key, 0) for key in COUNTS},
        'detections': {name: observer.classes['detections'][name] for name in CLASSES},
        'signs': dict(observer.classes['signs']),
        'path_cost_messages': observer.messages['path_cost'],
        'dropped': dropped(observer.statuses),
        'latency_ms': latency(observer.stage_ms),
        'faults': faults(observer.statuses),
        'device': str(pipeline.get('device', config.device)),
        'weights': str(pipeline.get('weights', config.weights)),
        'mode': config.mode,
    }


def latency(stage_ms):
    """Return {stage: {p50, p99}} in ms."""
    result = {}
    for stage, values in sorted(stage_ms.items()):
        p50, p99 = np.percentile(values, (50, 99))
        result[stage] = {'p50': round(float(p50), 3), 'p99': round(float(p99), 3)}
    return result


def dropped(statuses):
    """Return {topic: {reason: number}} from the last /diagnostics; of two nodes the larger."""
    result = defaultdict(Counter)
    for name, values in statuses.items():
        for key, count in values.items():
            reason = key.removeprefix('dropped.')
            if reason != key and count:
                result[_subject(name)] |= Counter({reason: count})
        if values.get('superseded'):
            result[_subject(name)]['superseded'] = values['superseded']
    return {subject: dict(counts) for subject, counts in result.items()}


def faults(statuses):
    """Return [{topic, kind, count, max_ms}], of two nodes that name the same the larger."""
    result = {}
    for name, values in statuses.items():
        for key, count in values.items():
            found = re.fullmatch(r'fault\.(.+)\.count', key)
            if found and count:
                largest = values.get(f'fault.{found[1]}.max_ms', 0)
                which = _subject(name), found[1]
                result[which] = max(result.get(which, (0, 0)), (count, largest))
    return [
        {'topic': topic, 'kind': kind, 'count': count, 'max_ms': largest}
        for (topic, kind), (count, largest) in result.items()
    ]


def _subject(status_name):
    """Return the topic of an input's status; the work of a node goes under its node's name."""
    node, _, subject = status_name.partition(': ')
    return node if subject == 'pipeline' else subject
