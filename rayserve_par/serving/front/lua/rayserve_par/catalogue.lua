-- Which app serves which model name.
--
-- Names come from the instances and are remembered in a file beside the configuration, so that a
-- model is known across reloads and while none of its instances lives. Until an app has said its
-- names, its own name stands for it.

local FIRST_POLL_MS = 2000
local STEP_MS = 20

local catalogue = {}
local fleet
local names_file
local names_of = {} -- backend name -> sorted names
local backends_of = {} -- model name -> backends, in the order of the configuration
local started_ms

local function now_ms()
    local now = core.now()
    return now.sec * 1000 + now.usec // 1000
end

local function index()
    backends_of = {}
    for _, backend in ipairs(fleet.backends) do
        for _, name in ipairs(names_of[backend.name] or { backend.app }) do
            backends_of[name] = backends_of[name] or {}
            table.insert(backends_of[name], backend)
        end
    end
end

local function remember()
    local temporary = names_file .. ".new"
    local file = io.open(temporary, "w")
    if not file then
        core.Warning("rayserve-par: cannot write " .. temporary)
        return
    end
    for _, backend in ipairs(fleet.backends) do
        for _, name in ipairs(names_of[backend.name] or {}) do
            file:write(backend.name, "\t", name, "\n")
        end
    end
    file:close()
    os.rename(temporary, names_file)
end

local function recall()
    local file = io.open(names_file, "r")
    if not file then
        return
    end
    for line in file:lines() do
        local backend, name = line:match("^([^\t]+)\t(.+)$")
        if backend then
            names_of[backend] = names_of[backend] or {}
            table.insert(names_of[backend], name)
        end
    end
    file:close()
end

local function valid(names)
    local found = {}
    for _, name in ipairs(names) do
        if type(name) == "string" and name ~= "" and not name:find("%c") then
            found[#found + 1] = name
        end
    end
    table.sort(found)
    return found
end

local function learn(backend, server)
    local names = valid(server.names)
    local before = names_of[backend.name]
    if #names == 0 or (before and table.concat(before, "\n") == table.concat(names, "\n")) then
        return
    end
    names_of[backend.name] = names
    index()
    remember()
end

-- All known model names, sorted.
function catalogue.names()
    local found = {}
    for name, backends in pairs(backends_of) do
        -- An app that never said its names is not a model yet.
        if names_of[backends[1].name] then
            found[#found + 1] = name
        end
    end
    table.sort(found)
    return found
end

-- The app that serves `name`, one with a living instance first. A name that is not known just
-- after the start may only not have been asked for: that is waited for.
function catalogue.backend_of(name)
    while not backends_of[name] and not fleet.all_asked()
        and now_ms() - started_ms < FIRST_POLL_MS do
        core.msleep(STEP_MS)
    end
    for _, backend in ipairs(backends_of[name] or {}) do
        if fleet.any_usable(backend) then
            return backend
        end
    end
    return backends_of[name] and backends_of[name][1]
end

-- An app for requests that name no model and may go to any (/health, /version, /docs).
function catalogue.any()
    for _, backend in ipairs(fleet.backends) do
        if fleet.any_usable(backend) then
            return backend
        end
    end
    return fleet.backends[1]
end

function catalogue.start(settings, the_fleet)
    fleet, names_file, started_ms = the_fleet, settings.names_file, now_ms()
    recall()
    index()
    table.insert(fleet.listeners, learn)
end

return catalogue
