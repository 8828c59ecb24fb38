-- Which instances have computed which beginnings of prompts.
--
-- A prompt's text is cut into blocks; block i's hash covers everything up to its end
-- (h_i = xxh64(block_i, seed = h_{i-1})), so equal hashes mean equal beginnings. The map keeps, for
-- a hash, the set of instances as bits (slot s = bit s-1). Least recently used entries go: two
-- generations, and what is used moves into the young one.

local GENERATION = 32768
local SMALL_BLOCK, SMALL_BLOCKS = 256, 64
local LARGE_BLOCK, LONGEST = 1024, 65536

local prefix_map = {}
prefix_map.__index = prefix_map

function prefix_map.new()
    return setmetatable({ young = {}, old = {}, count = 0 }, prefix_map)
end

-- The prompt as it stands in the JSON body: the text behind "messages", "prompt" or "input".
-- A body that is cut off serves as well. Chained hashes of its whole blocks.
function prefix_map.blocks(converters, body)
    local _, start = body:find('"messages"', 1, true)
    if not start then
        _, start = body:find('"prompt"', 1, true)
    end
    if not start then
        _, start = body:find('"input"', 1, true)
    end
    local hashes = {}
    if not start then
        return hashes
    end
    local last = math.min(#body, start + LONGEST)
    local hash, count, at, size = 0, 0, start + 1, SMALL_BLOCK
    while at + size - 1 <= last do
        hash = converters:xxh64(body:sub(at, at + size - 1), hash)
        count = count + 1
        hashes[count] = hash
        at = at + size
        if count == SMALL_BLOCKS then
            size = LARGE_BLOCK
        end
    end
    return hashes
end

-- The set of instances that know everything up to this block, or nil.
function prefix_map:holders(hash)
    return self.young[hash] or self.old[hash]
end

-- `slot` computes all of `hashes` now.
function prefix_map:record(hashes, slot)
    if slot > 62 then
        return
    end
    local bit, young, old = 1 << (slot - 1), self.young, self.old
    for i = 1, #hashes do
        local hash = hashes[i]
        local here = young[hash]
        if not here then
            self.count = self.count + 1
            young[hash] = (old[hash] or 0) | bit
        elseif here & bit == 0 then
            young[hash] = here | bit
        end
    end
    if self.count > GENERATION then
        self.old, self.young, self.count = self.young, {}, 0
    end
end

return prefix_map
