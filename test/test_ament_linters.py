# SPDX-License-Identifier: Apache-2.0
"""The linters of ament, where a ROS distribution brings them; `make lint` is ruff alone."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_code_follows_ament_flake8():
    linter = pytest.importorskip('ament_flake8.main')
    status, errors = linter.main_with_errors(argv=[])
    assert status == 0, '\n'.join(errors)


def test_docstrings_follow_ament_pep257():
    assert pytest.importorskip('ament_pep257.main').main(argv=['.', 'test']) == 0


def test_xml_files_follow_ament_xmllint():
    assert pytest.importorskip('ament_xmllint.main').main(argv=[]) == 0


def test_licence_and_contributing_are_those_ament_knows():
    # Source files carry an SPDX line, which ament_copyright does not read: test_packaging does.
    linter = pytest.importorskip('ament_copyright.main')
    assert linter.main(argv=['LICENSE', 'CONTRIBUTING.md']) == 0
