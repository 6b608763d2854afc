"""What a worker tells its router of the lines that a handler has emitted."""

from __future__ import annotations

from cell_worker.api import Cell, Event
from tests.support.runtime_world import Handle, batch, in_loop, make, one_result


@in_loop
async def test_a_result_tells_what_was_emitted_so_that_two_runs_can_be_compared() -> None:
    """The same for another instance and run; another for another line; nothing where nothing is emitted or done."""

    def handler(amount: int, run: str) -> Handle:
        async def handle(event: Event, cell: Cell) -> None:
            if event.event_id != "silent":
                cell.emit({"amount": amount, "generation": cell.generation, "processing_id": run})

        return handle

    told = []
    for generation, amount, name in ((1, 5, "x"), (2, 5, "y"), (3, 6, "y")):
        runtime, _ = await make(handler(amount, name), generation=generation)
        result = await one_result(runtime)
        assert result.emitted == 1
        told.append(result.emitted_digest)
    assert told[0] == told[1] != told[2]
    runtime, _ = await make(handler(5, "x"))
    for event_id in ("silent", "a", "a"):
        result = await one_result(runtime, batch(event_id))
    assert (result.duplicate, result.emitted, result.emitted_digest) == (True, 0, "")
    silent = await one_result((await make(handler(5, "x")))[0], batch("silent"))
    assert (silent.emitted, silent.emitted_digest) == (0, "")
