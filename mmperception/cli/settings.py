# SPDX-License-Identifier: Apache-2.0
"""The options `--params`, `--weights` and `--device`, and the Config they make."""

from mmperception.cli import WrongUse

# For figures and result files: a CPU with bfloat16 gives those of any other, unless asked.
EXACT = {'precision': 'float32'}


def add_settings(parser):
    """Add the options of every verb that loads a network."""
    parser.add_argument('--params', metavar='FILE', help='YAML file of settings')
    parser.add_argument('--weights', help='street, simulated or a safetensors file')
    parser.add_argument('--device', help='auto, cpu or cuda:N')


def config_of(args, defaults=None, **overrides):
    """
    Return the Config that the options ask for.

    Parameters
    ----------
    args : argparse.Namespace
        With `params`, `weights` and `device`.
    defaults : dict, optional
        Nested settings under those of the file, such as a bag's own.
    overrides
        Top-level settings above everything; None is left out.

    Raises
    ------
    WrongUse
        For an unknown or impossible setting.

    """
    from mmperception import config

    chosen = {'weights': args.weights, 'device': args.device, **overrides}
    try:
        values = config.read_mapping(args.params) if args.params else {}
        config.from_mapping(values)  # so that an error is the file's and not a default's
        values = merged(merged(defaults or {}, values), chosen)
        return config.from_mapping(values)
    except ValueError as error:
        place = f'{args.params}: ' if args.params and args.params not in str(error) else ''
        raise WrongUse(f'{place}{error}') from error


def merged(below, above):
    """Return two nested mappings as one; `above` wins, None counts as absent."""
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif value is not None:
            result[key] = value
    return result


def parameter_table():
    """Return the Markdown table of every setting, as docs/interfaces.md holds it."""
    from mmperception.config import default_of, leaves

    lines = ['| parameter | default | unit | meaning |', '|---|---|---|---|']
    for name, leaf, _ in leaves():
        choices = leaf.metadata['choices']
        meaning = leaf.metadata['sentence'] + (f' One of {", ".join(choices)}.' if choices else '')
        default = default_of(leaf)
        text = str(default).lower() if isinstance(default, bool) else str(default).strip("'")
        lines.append(f'| `{name}` | `{text or "(empty)"}` | {leaf.metadata["unit"]} | {meaning} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    print(parameter_table(), end='')
