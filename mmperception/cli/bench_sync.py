# SPDX-License-Identifier: Apache-2.0
"""`mmperception bench sync`: our synchroniser beside that of message_filters, where it is."""

from importlib.util import find_spec

SECONDS, REPEATS = 60.0, 3
COLUMNS = {
    'us_mean': 'us/msg',
    'us_p99': 'us p99',
    'us_max': 'us max',
    'pivots': 'pivots',
    'matched': 'matched',
    'wrong': 'wrong',
    'skew_ms': 'skew ms',
    'optimal_skew_ms': 'optimum',
    'worst_skew_ms': 'worst',
    'resumed_ms': 'resumed',
}


def run_sync(args):
    """Measure every case with every contestant in turn; return the figures and print them."""
    from mmperception.evaluation.latency import describe_machine
    from mmperception.evaluation.sync_benchmark import CASES
    from tqdm import tqdm

    contestants = _contestants()
    result = {'machine': describe_machine('cpu'), 'seconds': args.seconds or SECONDS, 'cases': {}}
    print(f'{"":34s}' + ''.join(f'{title:>9s}' for title in COLUMNS.values()))
    for case in tqdm(CASES, unit=' case', disable=None):
        figures = {name: _measured(case, make, result['seconds']) for name, make in contestants}
        result['cases'][case.name] = figures
        tqdm.write(case.name)
        for name, row in figures.items():
            tqdm.write(f'  {name:32s}' + ''.join(_cell(row.get(key)) for key in COLUMNS))
    if len(contestants) == 1:
        print('message_filters is not installed: nothing to compare with; source a distribution')
    return result


def _contestants():
    """Return (name, what makes one for a case); the peer where a distribution brings it."""
    from mmperception.evaluation.sync_benchmark import OurContestant, PIVOT

    def make_ours(case, loops):
        return OurContestant(case)

    if find_spec('message_filters') is None:
        return [('mmperception', make_ours)]
    from mmperception.ros.message_filters_contestant import MessageFiltersContestant

    def make_peer(case, loops):
        tolerance_s = case.tolerance_ms / 1e3
        return MessageFiltersContestant(PIVOT, case.inputs, case.queue, tolerance_s, loops)

    return [('mmperception', make_ours), ('message_filters', make_peer)]


def _measured(case, make, seconds):
    """Return the repetition whose mean cost is the median: the machine may be busy."""
    from mmperception.evaluation.sync_benchmark import make_messages, measure

    loops = make_messages(case, seconds)
    rows = [measure(case, make(case, loops), loops) for _ in range(REPEATS)]
    return sorted(rows, key=lambda row: row['us_mean'])[REPEATS // 2]


def _cell(value):
    if value is None:
        return f'{"-":>9s}'
    return f'{value:9d}' if isinstance(value, int) else f'{value:9.1f}'
