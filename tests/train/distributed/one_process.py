"""One of several processes of a run, for test_launch.py: `python one_process.py FOLDER WHAT`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from minigpt4.core.errors import Minigpt4Error
from minigpt4.train.distributed.distributed_group import distributed_group
from minigpt4.train.distributed.launch import end_with_parent, rank_assignment

TESTS_OF_TRAIN = Path(__file__).parents[1]


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    spec = importlib.util.spec_from_file_location("tiny", TESTS_OF_TRAIN / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    end_with_parent()
    assignment = rank_assignment(os.environ)
    assert assignment is not None
    recipe = tiny.make_recipe(batch_size=4, micro_batch=1, steps=4)
    try:
        with distributed_group(assignment, torch.device("cpu")) as process_group:
            (folder / f"process-{process_group.rank}").write_text(str(os.getpid()))
            trainer = tiny.make_trainer(recipe, process_group)
            rows = []
            for number in range(4):
                if (what, process_group.rank, number) == ("raises", 1, 2):
                    raise ValueError("the picture of a tiger cannot be read")
                if (what, process_group.rank, number) == ("is killed", 1, 2):
                    os.kill(os.getpid(), 9)
                while what == "hangs":
                    time.sleep(0.05)
                rows.append(asdict(trainer.step(number)))
            rows.append({"val_loss": trainer.validation_loss()})
            gathered = process_group.all_gather([f"process {process_group.rank}"] * (process_group.rank + 1))
            if process_group.rank == 0:
                weight = trainer.adapter.projection.linear.weight
                found = {"rows": rows, "weight": weight.tolist(), "gathered": gathered}
                (folder / "rows.json").write_text(json.dumps(found))
    except Minigpt4Error as error:
        (folder / f"error-{assignment.rank}").write_text(str(error))
        sys.exit(1)
    except ValueError as error:
        (folder / f"error-{assignment.rank}").write_text(str(error))
        sys.exit(3)


if __name__ == "__main__":
    main()
