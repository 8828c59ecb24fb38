-- The apps and their instances, and what each instance last said of itself.
--
-- One task per instance asks {prefix}/internal/front every POLL_MS, more seldom while it fails.
-- Nothing is asked where nothing depends on it: one app with one instance.
--
-- An instance that accepts connections and says nothing (its node hangs; the kernel still answers
-- keepalives) would keep its requests silent for as long. After CUT_POLLS silent questions in a
-- row, some 12 s, and with HAProxy's own check failed, they are ended.

local http = require("rayserve_par.http")
local json = require("rayserve_par.json")
local pools = require("rayserve_par.pools")

local POLL_MS = 500
local SLOWEST_POLL_MS = 4000
local POLL_TIMEOUT_SECONDS = 1
local SILENT_POLLS = 2
local CUT_POLLS = 4

local fleet = { backends = {}, listeners = {} }

local function number(found, otherwise)
    return type(found) == "number" and found or otherwise
end

local function is_up(haproxy)
    local status = haproxy:get_stats().status
    return status:sub(1, 2) == "UP" or status == "no check"
end

-- Requests of this HAProxy on the instance.
local function sessions(server)
    local live = server.haproxy:get_cur_sess()
    return server.pooled and live + server.pooled:get_cur_sess() or live
end

local function end_sessions(server)
    server.haproxy:shut_sess()
    if server.pooled then
        server.pooled:shut_sess()
    end
end

local function learn(backend, server, document)
    server.names = type(document.names) == "table" and document.names or { document.model }
    server.waiting = number(document.waiting, 0)
    server.kv_usage = number(document.kv_usage, 0)
    server.in_flight = number(document.in_flight, 0)
    server.limit = number(document.limit, math.huge)
    server.draining = document.draining == true
    server.failures, server.silences = 0, 0
    local rate = number(document.full_requests_per_second, 0)
    if rate ~= (server.full_rate or 0) then
        server.full_rate = rate > 0 and rate or nil
        if backend.pool then
            pools.compare(backend.pool)
        end
    end
    pools.heard(backend, document)
    server.usable = not server.draining and is_up(server.haproxy)
        and (not server.pooled or is_up(server.pooled))
    for _, listener in ipairs(fleet.listeners) do
        listener(backend, server)
    end
end

local function forget_load(server)
    server.waiting, server.kv_usage, server.in_flight = 0, 0, 0
    server.limit, server.sessions_at_poll = math.huge, 0
end

local function poll(backend, server)
    local before = sessions(server)
    local status, body =
        http.get(server, backend.prefix .. "/internal/front", nil, POLL_TIMEOUT_SECONDS)
    local document = status == 200 and json.decode(body)
    if type(document) == "table" then
        -- The count was taken at some moment between: a session that ended must not stay counted.
        server.sessions_at_poll = math.max(before, sessions(server))
        learn(backend, server, document)
    else
        server.failures = server.failures + 1
        server.silences = body == "silent" and server.silences + 1 or 0
        if server.silences >= CUT_POLLS and not is_up(server.haproxy) then
            end_sessions(server)
        end
        if body == "unreachable" or server.failures >= SILENT_POLLS then
            server.usable = false
        end
        forget_load(server)
    end
    server.asked = true
end

local function find_handles(backend, server)
    server.haproxy = core.backends[backend.name].servers[server.name]
    if backend.pool then
        server.pooled = core.backends[backend.pool.name].servers[server.name]
    end
end

-- Servers begin as the process before left them. One that it kept in maintenance in a pool's backend
-- would be down until its next health check.
local function end_maintenance(server)
    if server.pooled and is_up(server.haproxy) and not is_up(server.pooled) then
        server.pooled:set_ready()
        server.pooled:check_force_up()
    end
end

local function poll_for_ever(backend, server)
    find_handles(backend, server)
    local pause = POLL_MS
    -- An old process that still finishes its streams stops asking, or it would never leave.
    while core.get_info().Stopping ~= 1 do
        poll(backend, server)
        pause = server.failures == 0 and POLL_MS or math.min(pause * 2, SLOWEST_POLL_MS)
        core.msleep(pause)
    end
end

-- Whether every instance has answered or failed once, or enough of them for every app's names.
function fleet.all_asked()
    for _, backend in ipairs(fleet.backends) do
        local known, pending = false, false
        for _, server in ipairs(backend.servers) do
            known = known or server.names ~= nil
            pending = pending or not server.asked
        end
        if pending and not known then
            return false
        end
    end
    return true
end

function fleet.any_usable(backend)
    for _, server in ipairs(backend.servers) do
        if server.usable then
            return true
        end
    end
    return false
end

-- What a model's requests may go to: each app, or the pool that it is in.
function fleet.places()
    local found, listed = {}, {}
    for _, backend in ipairs(fleet.backends) do
        local place = backend.pool or backend
        if not listed[place] then
            listed[place] = true
            found[#found + 1] = place
        end
    end
    return found
end

function fleet.start(settings)
    local several = #settings.backends > 1
    pools.start(settings)
    for _, backend in ipairs(settings.backends) do
        fleet.backends[#fleet.backends + 1] = backend
        for _, server in ipairs(backend.servers) do
            server.usable, server.failures, server.silences = true, 0, 0
            forget_load(server)
            core.register_init(function()
                find_handles(backend, server)
                end_maintenance(server)
            end)
            if several or #backend.servers > 1 then
                core.register_task(function()
                    poll_for_ever(backend, server)
                end)
            end
        end
    end
end

return fleet
