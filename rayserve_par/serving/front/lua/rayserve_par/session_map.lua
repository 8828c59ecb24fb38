-- Which instance is a session's home.
--
-- Least recently used sessions go: two generations, and what is used moves into the young one, so
-- the last GENERATION sessions are known at least. Keys are hashes: a long header takes no more.

local GENERATION = 32768

local session_map = {}
session_map.__index = session_map

function session_map.new()
    return setmetatable({ young = {}, old = {}, count = 0 }, session_map)
end

-- The slot of the session's home, or nil.
function session_map:home(key)
    local slot = self.young[key]
    if not slot then
        slot = self.old[key]
        if slot then
            self:record(key, slot)
        end
    end
    return slot
end

-- The session's home is `slot` from now on.
function session_map:record(key, slot)
    if not self.young[key] then
        self.count = self.count + 1
        if self.count > GENERATION then
            self.old, self.young, self.count = self.young, {}, 1
        end
    end
    self.young[key] = slot
end

return session_map
