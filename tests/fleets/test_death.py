"""What is told of actors that are gone. Ray's texts, of version 2.60."""

import pytest
from ray.exceptions import OutOfMemoryError, RayError

from fedtiny.fleets.death import cause, short_of_memory
from fedtiny.fleets.pool import died

KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: ClientActor
\tactor_id: cbc9c00f27676f522f5b0f6901000000
\tpid: 25408
\tnamespace: a89eea19-1499-4237-a5f5-440dc5203fcc
\tip: 127.0.0.1
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called.
The actor never ran - it was cancelled before it started running."""

RAISED = """The actor died because of an error raised in its creation task, \x1b[36mray::A.__init__()\x1b[39m (
pid=25409, ip=127.0.0.1, actor_id=66cac8a76e809b3275c75a8501000000, repr=<a.A object at 0x7f>)
  File "a.py", line 7, in __init__
OSError: an earlier one
  File "a.py", line 9, in __init__
ValueError: bad
second line"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RayError(KILLED), "pid 25408: Worker unexpectedly exits with a connection error code 2. End of file"),
        (RayError(RAISED), "pid 25409: ValueError: bad"),
        (RayError("\tpid: 7\nThe actor is dead because its node has died."), "pid 7: its node has died"),
        (OutOfMemoryError("Memory on the node was low"), "Ray ended it, since memory was short"),
        (RayError("something\nelse"), "something else"),
    ],
)
def test_the_cause_is_one_line_without_what_it_might_have_been(error: RayError, told: str) -> None:
    assert cause(error) == told


@pytest.mark.parametrize(
    ("failure", "short"),
    [
        ("raised MemoryError: ", True),
        ("raised RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", True),
        ("raised OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB", True),
        ("raised LookupError: no memory of that", False),
    ],
)
def test_memory_was_short_only_where_that_was_raised(failure: str, short: bool) -> None:
    assert short_of_memory(failure) == short


def test_a_run_was_short_of_memory_where_ray_says_so_by_the_type_and_not_where_its_text_guesses() -> None:
    assert "high memory usage" in KILLED
    what = "its process died: pid 25408: Worker unexpectedly exits with a connection error code 2. End of file"
    assert died(RayError(KILLED)) == (what, "", False)
    assert died(OutOfMemoryError("Task was killed due to the node running low on memory.")) == (
        "its process died: Ray ended it, since memory was short",
        "",
        True,
    )
