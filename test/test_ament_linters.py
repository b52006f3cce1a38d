# SPDX-License-Identifier: Apache-2.0
"""
The linters of ament with their default settings, in processes of their own.

In this process they would fork with torch and DDS loaded, which hangs. ament_copyright knows no
SPDX lines: those of the source files are checked in test_packaging.
"""

import importlib.util
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
CODE = ['mmperception', 'test', 'launch', 'environment', 'setup.py']


def lint(linter, *arguments):
    """Return the exit status of a linter and what it wrote."""
    if importlib.util.find_spec(linter) is None:
        pytest.skip(f'{linter} is not installed')
    program = f'import sys; from {linter}.main import main; sys.exit(main())'
    command = [sys.executable, '-c', program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, f'{done.stdout}\n{done.stderr}'


def test_code_follows_ament_flake8():
    status, text = lint('ament_flake8', *CODE)
    assert status == 0, text


def test_docstrings_follow_ament_pep257():
    status, text = lint('ament_pep257', *CODE)
    assert status == 0, '\n'.join(line for line in text.splitlines() if ': D' in line)


def test_xml_files_follow_ament_xmllint():
    if shutil.which('xmllint') is None:
        pytest.skip('xmllint is not installed (libxml2-utils)')
    status, text = lint('ament_xmllint', 'package.xml')
    if 'failed to load' in text:
        pytest.skip('the schema that package.xml names cannot be reached')
    assert status == 0, text


def test_licence_and_contributing_are_those_ament_knows():
    status, text = lint('ament_copyright', 'LICENSE', 'CONTRIBUTING.md')
    assert status == 0, text
