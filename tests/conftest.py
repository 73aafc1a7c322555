"""Fixtures for all tests"""
import os
from pathlib import Path

import pytest

@pytest.fixture(scope='session')
def shared_data()->Path:
    "The folder with real data: `$KAMIG_SHARED`, else ../shared/data beside the repository; without it the test is skipped"
    folder = Path(os.environ.get('KAMIG_SHARED') or Path(__file__).resolve().parents[2]/'shared'/'data')
    if not folder.is_dir(): pytest.skip(f'needs the data folder {folder}; set KAMIG_SHARED to where it lies')
    return folder
