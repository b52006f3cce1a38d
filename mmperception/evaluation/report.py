# SPDX-License-Identifier: Apache-2.0
"""
Figures for people (a table) and for programs (JSON, `evaluate --json`).

The JSON is `{suite, data, weights, commit, metrics: {name: {value, low, high, count}}}`.
"""

from dataclasses import asdict
import json
from pathlib import Path
import subprocess

NO_WEIGHTS = 'none'


def as_mapping(suite, data, weights, commit, metrics):
    """
    Return the report as it is written to JSON.

    Parameters
    ----------
    suite, data, weights, commit : str
        What was measured, on which recording, with which network (`NO_WEIGHTS`: none) and source.
    metrics : dict of str to Metric
        In the order of the table.

    Returns
    -------
    dict

    """
    return {
        'suite': suite,
        'data': data,
        'weights': weights,
        'commit': commit,
        'metrics': {name: asdict(metric) for name, metric in metrics.items()},
    }


def source_commit():
    """Return the short commit of the source tree, or 'unknown' outside of one."""
    command = ['git', '-C', str(Path(__file__).parent), 'rev-parse', '--short', 'HEAD']
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return 'unknown'
    return result.stdout.strip() or 'unknown'


def write_json(path, report):
    """Write a report; its folder is made when it is not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')


def table(report):
    """Return the report as text: a line for each figure, its interval and what it rests on."""
    weights = report['weights']
    origin = 'geometry alone' if weights == NO_WEIGHTS else f'weights {weights}'
    lines = [
        f'{report["suite"]} of {origin} on {report["data"]} (commit {report["commit"]})',
        f'{"figure":<46}{"value":>9}  {"90 percent":<16}{"of":>6}',
    ]
    for name, metric in report['metrics'].items():
        low, high = metric['low'], metric['high']
        interval = '' if low is None else f'{_text(low)} .. {_text(high)}'
        value = _text(metric['value'])
        lines.append(f'{name:<46}{value:>9}  {interval:<16}{metric["count"]:>6}')
    return '\n'.join(lines)


def _text(value):
    if value is None:
        return 'none'
    return str(value) if isinstance(value, int) else f'{value:.2f}'
