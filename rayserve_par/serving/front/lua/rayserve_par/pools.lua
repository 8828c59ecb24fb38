-- Pools of apps: one model on different nodes, and which apps join or leave one at run time.
--
-- A pool's servers are those of its apps, each with the app that it belongs to, a slot among all of
-- the pool's, and a second handle, in the pool's own backend.
--
-- The launcher asks an instance of each app what it serves and where (words.py), and writes the
-- pools down (pools.py). An app that did not answer is `silent`. It is polled like any other
-- (fleet.lua), so asked again for as long as it has an instance, and the first word of one puts the
-- app into its pool: its servers in the pool's backend, which were in maintenance, become ready.
-- Nothing is started anew for that, and no request waits for it. A silent app that is in a pool by
-- what its former instances said leaves it where the new word differs.

local pools = {}
local all = {} -- in the order of the configuration

-- What an app says of itself, in a form that can be compared; nil where it can be in no pool.
local function word_of(names, node_group)
    if type(names) ~= "table" or type(node_group) ~= "string" then
        return nil
    end
    local sorted = {}
    for _, name in ipairs(names) do
        sorted[#sorted + 1] = tostring(name)
    end
    table.sort(sorted)
    return #sorted > 0 and { names = table.concat(sorted, "\n"), group = node_group } or nil
end

-- How much more a request is to each instance of a pool than to the mean of them, by what full ones
-- are predicted to serve; 1 where an instance does not say.
function pools.compare(pool)
    local sum, known = 0, 0
    for _, server in ipairs(pool.servers) do
        if server.full_rate then
            sum, known = sum + server.full_rate, known + 1
        end
    end
    for _, server in ipairs(pool.servers) do
        server.weight = server.full_rate and sum / known / server.full_rate or 1
    end
end

local function add(pool, backend)
    pool.names, pool.groups[backend.told.group] = backend.told.names, true
    backend.pool = pool
    for _, server in ipairs(backend.servers) do
        pool.slots = pool.slots + 1
        server.slot = pool.slots
        pool.servers[#pool.servers + 1] = server
    end
end

local function make_ready(pool, backend)
    for _, server in ipairs(backend.servers) do
        server.pooled = core.backends[pool.name].servers[server.name]
        server.pooled:set_ready()
    end
end

local function fits(pool, backend)
    local word, first = backend.told, pool.first
    if backend.pool or not word then
        return false
    end
    if pool.names then
        return pool.names == word.names and not pool.groups[word.group]
    end
    return not first.pool and first.told and first.told.names == word.names
        and first.told.group ~= word.group
end

local function join(pool, backend)
    if not pool.names then
        -- The slots of its first app stay as they are, and so what is known of them.
        pool.memory = pool.first.memory
        add(pool, pool.first)
        make_ready(pool, pool.first)
    end
    add(pool, backend)
    make_ready(pool, backend)
    pools.compare(pool)
    core.Info("rayserve-par: " .. backend.name .. " joins the pool " .. pool.name)
end

local function leave(pool, backend)
    local staying = {}
    for _, server in ipairs(pool.servers) do
        if server.backend ~= backend then
            staying[#staying + 1] = server
        end
    end
    pool.servers, pool.groups[backend.told.group] = staying, nil
    pools.compare(pool)
    backend.pool = nil
    for slot, server in ipairs(backend.servers) do
        -- What it has begun is finished.
        server.pooled:set_maint()
        server.pooled, server.slot, server.weight = nil, slot, 1
    end
    core.Info("rayserve-par: " .. backend.name .. " leaves the pool " .. pool.name)
end

-- An instance of `backend` has answered with `document`.
function pools.heard(backend, document)
    if not backend.silent then
        return
    end
    backend.silent = false
    local word, before = word_of(document.names, document.node_group), backend.told
    if word and before and word.names == before.names and word.group == before.group then
        return
    end
    if backend.pool then
        leave(backend.pool, backend)
    end
    backend.told = word
    for _, pool in ipairs(all) do
        for _, app in ipairs(pool.may_join) do
            if (app == backend or pool.first == backend) and fits(pool, app) then
                join(pool, app)
            end
        end
    end
end

function pools.start(settings)
    local by_name = {}
    for _, backend in ipairs(settings.backends) do
        by_name[backend.name] = backend
        backend.told, backend.memory = word_of(backend.names, backend.node_group), backend.name
        for slot, server in ipairs(backend.servers) do
            server.backend, server.slot, server.weight = backend, slot, 1
        end
    end
    for _, pool in ipairs(settings.pools) do
        pool.servers, pool.groups, pool.slots, pool.memory = {}, {}, 0, pool.name
        pool.first = by_name[pool.backends[1]]
        for n, name in ipairs(pool.may_join) do
            pool.may_join[n] = by_name[name]
        end
        if #pool.backends > 1 then
            for _, name in ipairs(pool.backends) do
                add(pool, by_name[name])
            end
        end
        all[#all + 1] = pool
    end
end

return pools
