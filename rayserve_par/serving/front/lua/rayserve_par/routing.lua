-- Which instance of an app, or of a pool of apps, gets a request.
--
-- load = n + 3 w + k m: n requests on the instance (its own last count, and what this HAProxy has
-- sent or finished since; at least this HAProxy's live sessions), w of them waiting in the engine
-- (so a waiting one counts 4 times, as in vLLM's balancing of data-parallel ranks,
-- vllm/v1/engine/core_client.py), k its share of KV cache in use, m the mean of n. In a pool, whose
-- instances are of different speeds, all of it times the instance's weight (fleet.lua): mean speed /
-- its own.
-- An instance is full at its own limit, when load >= ceil(1.25 (sum of loads + 1) / N) (consistent
-- hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam, 2016), and, so that none stays idle,
-- when load >= 2 (least load) + 2; instances at their limits are neither counted nor measured with.
-- Where a prompt is known, 2 requests more are allowed.
--
-- prefix: the home of a known session; else the instance that holds the longest beginning of the
-- prompt, if that is a quarter of it; else rendezvous hash of the prompt's first 2 kB, or of the
-- session where the prompt is too short to know; each passes over full instances. Without any of
-- these the least loaded. A session's home is where its first request went: a hash of the session
-- instead would spread each system prompt over all instances. It keeps it while it is full, and
-- gets a new one when it takes no requests.

local fleet = require("rayserve_par.fleet")
local prefix_map = require("rayserve_par.prefix_map")
local session_map = require("rayserve_par.session_map")

local BOUND = 1.25
local KNOWN_SLACK = 2
local WAITING_WEIGHT = 3
local WORTHWHILE_SHARE = 0.25
local HEAD_BLOCKS = 8
local MULTIPLIER = -7046029254386353131 -- 0x9E3779B97F4A7C15, the golden ratio in 64 bits

local routing = {}
local known = {} -- by a place's `memory`: what is known of prompts and of sessions
local turns = {} -- backend name -> next of round robin
local policy

-- Every usable instance with its load, and with whether it is full for new and for known prompts.
local function measure(place)
    local found, requests, total, open = {}, 0, 0, 0
    for _, server in ipairs(place.servers) do
        if server.usable then
            local live = server.haproxy:get_cur_sess()
            if server.pooled then
                live = live + server.pooled:get_cur_sess()
            end
            server.requests =
                math.max(live, server.in_flight + live - server.sessions_at_poll)
            requests = requests + server.requests
            found[#found + 1] = server
        end
    end
    local mean, least = requests / math.max(#found, 1), math.huge
    for _, server in ipairs(found) do
        server.load = server.weight
            * (server.requests + WAITING_WEIGHT * server.waiting + server.kv_usage * mean)
        server.at_limit = server.requests >= server.limit
        if not server.at_limit then
            open, total = open + 1, total + server.load
            least = math.min(least, server.load)
        end
    end
    local bound =
        math.min(math.ceil(BOUND * (total + 1) / math.max(open, 1)), 2 * least + KNOWN_SLACK)
    for _, server in ipairs(found) do
        server.full = server.at_limit or server.load >= bound
        server.full_for_known = server.at_limit or server.load >= bound + KNOWN_SLACK
    end
    return found
end

local function lighter(one, other)
    if one.at_limit ~= other.at_limit then
        return other.at_limit
    end
    return one.load < other.load
end

-- The least loaded, those at their limits last; of equals a random one.
local function least_loaded(servers)
    local best, equals
    for _, server in ipairs(servers) do
        if not best or lighter(server, best) then
            best, equals = server, 1
        elseif not lighter(best, server) then
            equals = equals + 1
            if math.random(equals) == 1 then
                best = server
            end
        end
    end
    return best
end

-- Hash of (key, instance): every proxy orders the instances alike for a key. In a pool each is
-- first for as many keys as its speed is of all speeds (weighted rendezvous: -ln(u) / speed).
local function rank(key, server)
    local mixed = (key ~ server.seed) * MULTIPLIER
    mixed = (mixed ~ (mixed >> 29)) * MULTIPLIER
    mixed = mixed ~ (mixed >> 32)
    if not server.pooled then
        return mixed
    end
    return math.log(((mixed >> 11) + 0.5) / 2 ^ 53) * server.weight
end

-- The first in `key`'s order of those where `full` (a field) is not set; nil if it is for all.
local function rendezvous(servers, key, full)
    local best
    for _, server in ipairs(servers) do
        if not server[full] and (not best or rank(key, server) > rank(key, best)) then
            best = server
        end
    end
    return best
end

-- The least loaded of `holders` that is not full; of equals always the same one, so that the
-- others' copies of this beginning can be given up.
local function least_loaded_holder(servers, holders, key)
    local best
    for _, server in ipairs(servers) do
        if not server.full_for_known and holders & (1 << (server.slot - 1)) ~= 0 then
            if not best or server.load < best.load
                or (server.load == best.load and rank(key, server) > rank(key, best)) then
                best = server
            end
        end
    end
    return best
end

local function longest_match(servers, map, hashes)
    for i = #hashes, math.max(1, math.ceil(WORTHWHILE_SHARE * #hashes)), -1 do
        local holders = map:holders(hashes[i])
        if holders then
            local found = least_loaded_holder(servers, holders, hashes[i])
            if found then
                return found
            end
        end
    end
    return nil
end

-- The usable instance in `slot`.
local function in_slot(servers, slot)
    for _, server in ipairs(servers) do
        if server.slot == slot then
            return server
        end
    end
    return nil
end

-- The instance for a prompt, with the hash of its session where it has one.
local function by_prompt(servers, map, hashes, session)
    local key = hashes[math.min(#hashes, HEAD_BLOCKS)] or session
    return longest_match(servers, map, hashes)
        or key and rendezvous(servers, key, "full")
        or least_loaded(servers)
end

-- By an app's own prefix, what its pool knows of its instances counts too.
local function known_of(place)
    local memory = (place.pool or place).memory
    known[memory] = known[memory] or { prompts = prefix_map.new(), sessions = session_map.new() }
    return known[memory].prompts, known[memory].sessions
end

local policies = {}

function policies.prefix(txn, servers, place)
    local map, homes = known_of(place)
    local hashes = prefix_map.blocks(txn.c, txn.sf:req_body())
    local header = txn.sf:req_hdr("x-session-id")
    local session = header ~= "" and txn.c:xxh64(header, 0) or nil
    local home = session and in_slot(servers, homes:home(session))
    local found = home
    if not home or home.full_for_known then
        found = by_prompt(servers, map, hashes, session)
    end
    if session and not home then
        homes:record(session, found.slot)
    end
    map:record(hashes, found.slot)
    return found
end

policies["least-loaded"] = function(_, servers)
    return least_loaded(servers)
end

policies["power-of-two"] = function(_, servers)
    local first = math.random(#servers)
    local second = (first + math.random(math.max(#servers - 1, 1)) - 1) % #servers + 1
    return least_loaded({ servers[first], servers[second] })
end

policies["round-robin"] = function(_, servers, place)
    local turn = turns[place.name] or 0
    turns[place.name] = turn + 1
    return servers[turn % #servers + 1]
end

-- The instance of `place` for this request; nil leaves it to HAProxy's own balancing, as does one
-- that HAProxy has found to be down since it was asked last.
function routing.choose(txn, place)
    local servers = measure(place)
    return #servers > 0 and policy(txn, servers, place) or nil
end

function routing.start(settings)
    policy = policies[settings.routing]
    core.register_init(function()
        for _, backend in ipairs(fleet.backends) do
            for _, server in ipairs(backend.servers) do
                server.seed = 0
                for byte in server.name:gmatch(".") do
                    server.seed = (server.seed ~ byte:byte()) * 1099511628211 -- FNV-1a
                end
            end
        end
    end)
end

return routing
