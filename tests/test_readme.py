"""The README's Python runs as pasted, one block after another."""

import re
from pathlib import Path

import pytest
import torch

from inverse.cli import main

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "tabletop", "--out", "pictures", "--count", "1"]) == 0
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) >= 3
    assert (tmp_path / "found" / "recovery.json").is_file()
    assert isinstance(names["vertices"].grad, torch.Tensor)
    assert names["vertices"].grad.abs().max() > 0
