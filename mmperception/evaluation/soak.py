# SPDX-License-Identifier: Apache-2.0
"""
What a soak has shown: every fault accounted for, output back in time, memory and threads flat.

The soak itself (`ros/soak.py`) only records; nothing of ROS is needed to judge. A record of a
fault is a mapping with `fault`, `began_s` and `ended_s` (since the begin of the soak), `before`
and `after` (values of `/diagnostics` by status), `levels` (the worst while it lasted), `reports`
(how many came meanwhile), `states` (of nodes that were sent away and back), `heard` (results
while it lasted), `usual_s` (the longest that each result came after its stamp just before the
fault) and `resumed_s`: for each result seconds from the end of the fault to the stamp, and to the
arrival, of the first about the time after it.
"""

from collections import defaultdict

from mmperception.evaluation.soak_faults import evidence_of, goes_on, RESULTS, Rises
import numpy as np

FLAT = 0.05  # of the resident memory after warm-up
WINDOWS = 10  # of which medians are compared
FEWEST = 3 * WINDOWS  # samples; below, nothing is said about memory
WARM_UP_PART, WARM_UP_S = 0.1, 180.0
# The first result about the time after a fault comes at most this much later after its end than
# results came after their stamps just before: what a frame takes is the machine's affair.
RESUME_S = 1.0
# A thread or two may be under way when a sample is taken.
THREADS_MORE = 2


def warm_up_s(seconds):
    """Return how much of a soak does not count for memory: a tenth, at most three minutes."""
    return min(WARM_UP_PART * seconds, WARM_UP_S)


def judge_fault(record, resume_s=RESUME_S):
    """
    Judge one fault.

    Parameters
    ----------
    record : dict
        See the module.
    resume_s : float
        How much later than usual a result may come after the end of the fault.

    Returns
    -------
    dict
        For the report; `complaints` is empty when all is well.

    """
    fault = record['fault']
    evidence = evidence_of(fault)
    unseen = [f'not seen: {one}' for one in evidence if not one.is_seen(record)]
    complaints = unseen + [
        f'{result} stopped' for result in sorted(goes_on(fault)) if not record['heard'].get(result)
    ]
    for result in RESULTS:
        complaints += _lateness(record, result, resume_s)
    return {
        'kind': fault.kind,
        'targets': list(fault.targets),
        'begin_s': round(record['began_s'], 2),
        'end_s': round(record['ended_s'], 2),
        'injected': record['injected'],
        'counted': {
            str(one): one.difference(record) for one in evidence if isinstance(one, Rises)
        },
        'resumed_s': {name: round(both[0], 3) for name, both in record['resumed_s'].items()},
        'arrived_s': {name: round(both[1], 3) for name, both in record['resumed_s'].items()},
        'usual_s': {name: round(s, 3) for name, s in record['usual_s'].items()},
        'unseen': unseen,
        'complaints': complaints,
    }


def _lateness(record, result, resume_s):
    """Return what is wrong with how soon a result was back."""
    both, usual_s = record['resumed_s'].get(result), record['usual_s'].get(result, 0.0)
    if both is None:
        return [f'{result} did not come back']
    if both[1] > resume_s + usual_s:
        return [f'{result} came {both[1]:.2f} s after the fault, usually {usual_s:.2f} s']
    return []


def judge_memory(samples, seconds):
    """
    Judge resident memory and threads after warm-up, by medians of windows.

    Parameters
    ----------
    samples : sequence of (float, float, int)
        Seconds since the begin, resident MB, threads.
    seconds : float
        Planned length of the soak.

    Returns
    -------
    dict
        Figures and `complaints`.

    """
    counted = [one for one in samples if one[0] >= warm_up_s(seconds)]
    now = samples[-1] if samples else (0.0, 0.0, 0)
    result = {
        'warm_up_s': warm_up_s(seconds),
        'samples': len(counted),
        'rss_now_mb': round(now[1], 1),
        'threads_now': now[2],
        'complaints': [],
    }
    if len(counted) < FEWEST:
        return result
    windows = np.array_split(np.array(counted, float), WINDOWS)
    resident = [float(np.median(window[:, 1])) for window in windows]
    threads = [int(np.median(window[:, 2])) for window in windows]
    growth = max(resident) / resident[0] - 1
    result.update(
        rss_mb=[round(value, 1) for value in resident],
        rss_growth_percent=round(100 * growth, 2),
        rss_max_mb=round(max(one[1] for one in counted), 1),
        threads=threads,
    )
    if growth > FLAT:
        result['complaints'].append(
            f'resident memory grew by {100 * growth:.1f} percent: '
            f'{resident[0]:.0f} to {max(resident):.0f} MB'
        )
    if max(threads) > threads[0] + THREADS_MORE:
        result['complaints'].append(f'threads grew from {threads[0]} to {max(threads)}')
    return result


def judge(soak, resume_s=RESUME_S):
    """
    Judge a soak, whole or so far.

    Parameters
    ----------
    soak : dict
        `seconds`, `elapsed_s`, `records`, `samples`, `death` (None, or how a node ended), and
        what is passed on: `totals`, `messages`, `log`.
    resume_s : float
        See `judge_fault`.

    Returns
    -------
    dict
        The report; `complaints` is empty exactly when the soak was passed.

    """
    faults = [judge_fault(record, resume_s) for record in soak['records']]
    memory = judge_memory(soak['samples'], soak['seconds'])
    complaints = [f'a node died: {soak["death"]}'] if soak['death'] else []
    complaints += memory.pop('complaints')
    for fault in faults:
        where = f'{fault["kind"]} {" ".join(fault["targets"])} at {fault["begin_s"]:.0f} s'
        complaints += [f'{where}: {sentence}' for sentence in fault['complaints']]
    return {
        'seconds': soak['seconds'],
        'elapsed_s': round(soak['elapsed_s'], 1),
        'faults_injected': len(faults),
        'faults_accounted': sum(not fault['unseen'] for fault in faults),
        'resumed_s': _spread(faults, 'resumed_s'),
        'arrived_s': _spread(faults, 'arrived_s'),
        'usual_s': _spread(faults, 'usual_s'),
        'memory': memory,
        'death': soak['death'],
        **{key: soak[key] for key in ('totals', 'messages', 'log')},
        'complaints': complaints,
        'kinds': _by_kind(faults),
        'faults': faults,
        'samples': soak['samples'],
    }


def _spread(faults, key):
    """Return {result: {p50, p99, max}} in seconds after the end of faults."""
    result = {}
    for name in RESULTS:
        values = [fault[key][name] for fault in faults if name in fault[key]]
        if values:
            result[name] = {
                'p50': round(float(np.median(values)), 3),
                'p99': round(float(np.percentile(values, 99)), 3),
                'max': max(values),
            }
    return result


def _by_kind(faults):
    """Return {kind and targets: how often, and how often without complaint}."""
    counts = defaultdict(lambda: {'times': 0, 'passed': 0})
    for fault in faults:
        row = counts[f'{fault["kind"]} {" ".join(sorted(fault["targets"]))}']
        row['times'] += 1
        row['passed'] += not fault['complaints']
    return dict(sorted(counts.items()))
