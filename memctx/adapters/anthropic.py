"""Memory for the Anthropic SDK's tool runner: `memory_20250818` as the SDK's own kind of tool, over a scope.

    tool = MemoryTool(MemoryFiles(memory.at("acme", "ana")))
    client.beta.messages.tool_runner(model=..., messages=[...], tools=[tool], max_tokens=...).until_done()

What the model did wrong goes back to it as a result with `is_error`; a store that fails raises `StoreError`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from anthropic.lib.tools import ToolError
from anthropic.tools.memory import BetaAbstractMemoryTool, BetaAsyncAbstractMemoryTool

from memctx.dialects._calls import BAD_INPUT
from memctx.dialects.anthropic import MemoryFiles

if TYPE_CHECKING:
    from anthropic.types.beta import BetaCacheControlEphemeralParam


class MemoryTool(BetaAbstractMemoryTool):
    """For `Anthropic`. `cache_control`: as the SDK takes it."""

    def __init__(self, files: MemoryFiles, *, cache_control: BetaCacheControlEphemeralParam | None = None) -> None:
        super().__init__(cache_control=cache_control)
        self.files = files

    def call(self, input: object) -> str:
        """Answer a tool use. Raises `ToolError` with what the model should be told."""
        return _run(self.files, input)

    def _command(self, command: Any) -> str:
        return _run(self.files, command)

    view = create = str_replace = insert = delete = rename = _command

    def clear_all_memory(self) -> str:
        """Take back every file that the host does not keep."""
        self.files.clear()
        return "All memory cleared"


class AsyncMemoryTool(BetaAsyncAbstractMemoryTool):
    """For `AsyncAnthropic`; works off the event loop. `cache_control`: as the SDK takes it."""

    def __init__(self, files: MemoryFiles, *, cache_control: BetaCacheControlEphemeralParam | None = None) -> None:
        super().__init__(cache_control=cache_control)
        self.files = files

    async def call(self, input: object) -> str:
        """Answer a tool use. Raises `ToolError` with what the model should be told."""
        return await asyncio.to_thread(_run, self.files, input)

    async def _command(self, command: Any) -> str:
        return await asyncio.to_thread(_run, self.files, command)

    view = create = str_replace = insert = delete = rename = _command

    async def clear_all_memory(self) -> str:
        """Take back every file that the host does not keep."""
        await asyncio.to_thread(self.files.clear)
        return "All memory cleared"


def _run(files: MemoryFiles, command: Any) -> str:
    dump = getattr(command, "model_dump", None)
    try:
        return files.run("memory", dump(exclude_none=True) if dump else command)
    except BAD_INPUT as cause:
        raise ToolError(str(cause)) from cause
