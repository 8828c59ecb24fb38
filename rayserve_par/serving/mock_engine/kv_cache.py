"""The KV cache in blocks: who holds them, which can be found again, which is dropped first.

    blocks = unused + idle + shared + private
    shared   named (full, findable) blocks that sequences hold; counted once however many hold them
    private  blocks of one sequence: not yet full, or full with a name that another block has
    idle     named blocks that nobody holds: findable until their room is needed, least recently
             released first; a sequence's blocks are released from its end, so ends go first
    unused   blocks that hold nothing

The same rules as vLLM's block pool (vllm/v1/core/block_pool.py, kv_cache_manager.py): usage counts
shared and private blocks only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class KvCache:
    """Counts blocks; holds no KV."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._unused = blocks
        self._private = 0
        self._holders: dict[bytes, int] = {}
        self._idle: OrderedDict[bytes, None] = OrderedDict()

    @property
    def used_blocks(self) -> int:
        """Blocks that sequences hold."""
        return len(self._holders) + self._private

    @property
    def idle_blocks(self) -> int:
        """Findable blocks that nobody holds."""
        return len(self._idle)

    @property
    def free_blocks(self) -> int:
        """Blocks that can be given away, idle ones included."""
        return self._unused + len(self._idle)

    def found(self, names: Sequence[bytes]) -> int:
        """How many leading blocks are in the cache."""
        for count, name in enumerate(names):
            if name not in self._holders and name not in self._idle:
                return count
        return len(names)

    def admit(self, names: Sequence[bytes], private: int) -> bool:
        """Hold the found blocks `names` and take `private` new ones; False if there is no room."""
        waking = sum(name in self._idle for name in names)
        if self.free_blocks - waking < private:
            return False
        for name in names:
            self._idle.pop(name, None)
            self._holders[name] = self._holders.get(name, 0) + 1
        self._take(private)
        return True

    def take(self, private: int) -> bool:
        """Take new blocks; False if there is no room."""
        if self.free_blocks < private:
            return False
        self._take(private)
        return True

    def _take(self, count: int) -> None:
        for _ in range(count - self._unused):
            self._idle.popitem(last=False)
            self._unused += 1
        self._unused -= count
        self._private += count

    def publish(self, name: bytes) -> bool:
        """Name a full private block, so that others find it; False if the name is taken."""
        if name in self._holders or name in self._idle:
            return False
        self._private -= 1
        self._holders[name] = 1
        return True

    def release(self, names: Sequence[bytes], private: int) -> None:
        """Let go of a sequence's blocks, `names` in the order of its tokens."""
        self._private -= private
        self._unused += private
        for name in reversed(names):
            if self._holders[name] > 1:
                self._holders[name] -= 1
            else:
                del self._holders[name]
                self._idle[name] = None
