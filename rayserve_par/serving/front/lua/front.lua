-- The front door inside HAProxy: which model, and which of its instances.
--
-- Loaded once for all threads (`lua-load`), with the path of the settings table that the launcher
-- wrote as its argument. One action, `rayserve_front`, runs per request:
--   own prefix of an app -> that app; else the app that serves `model`, with the path rewritten;
--   then, where the app has several instances, the instance, in txn.rayserve_server.
-- Serve's own rules take it from there: they choose the backend by the path. Where several apps
-- serve `model` as a pool, the instance is one of theirs, and txn.rayserve_pool is the backend.

local settings_path = ...
local settings = dofile(settings_path)

local fleet = require("rayserve_par.fleet")
local catalogue = require("rayserve_par.catalogue")
local form = require("rayserve_par.form")
local json = require("rayserve_par.json")
local model_list = require("rayserve_par.model_list")
local replies = require("rayserve_par.replies")
local routing = require("rayserve_par.routing")

fleet.start(settings)
catalogue.start(settings, fleet)
routing.start(settings)

-- The app whose own prefix the path carries, and the path behind it. The root has no prefix.
local function by_prefix(path)
    for _, backend in ipairs(fleet.backends) do
        local prefix = backend.prefix
        if prefix ~= "" and path:sub(1, #prefix) == prefix then
            local rest = path:sub(#prefix + 1)
            if rest == "" or rest:sub(1, 1) == "/" then
                return backend, rest
            end
        end
    end
    if #fleet.backends == 1 and fleet.backends[1].prefix == "" then
        return fleet.backends[1], path
    end
    return nil, path
end

-- Bytes of the body that did not fit the buffer, so that nothing behind them is known.
local function truncated(txn, body)
    local length = tonumber(txn.sf:req_hdr("content-length"))
    if length then
        return #body < length
    end
    return txn.sf:req_hdr("transfer-encoding") ~= "" and #body > settings.buffer_bytes * 0.9
end

-- The name in `model`: of the query (websockets), of a form, or what HAProxy found in the JSON.
-- HAProxy's search ends at depth 20 and at `\/`, and takes `\u00e8` for one byte: where it found
-- nothing or more than ASCII, the body is read here.
local function requested_model(txn)
    local name = txn.sf:url_param("model")
    if name ~= "" then
        return txn.c:url_dec(name)
    end
    local content_type = txn.sf:req_hdr("content-type")
    if content_type:lower():find("multipart/form-data", 1, true) then
        return form.field(txn.sf:req_body(), content_type, "model")
    end
    name = tostring(txn:get_var("txn.rayserve_model") or "")
    if name == "" or name:find("[\x80-\xFF]") then
        return json.find_text(txn.sf:req_body(), "model")
    end
    return name
end

local function without_model(txn, path)
    local method = txn.sf:method()
    return method ~= "POST" or path == "/ping" or path == "/health"
end

-- The app for a request without a prefix of its own; nil when it has been answered here.
local function by_model(txn, path)
    local name = requested_model(txn)
    if not name or name == "" then
        if without_model(txn, path) then
            return catalogue.any()
        end
        if truncated(txn, txn.sf:req_body()) then
            return replies.no_model_in_sight(txn, settings.buffer_bytes)
        end
        return replies.no_model(txn, catalogue.names())
    end
    local backend = catalogue.backend_of(name)
    if not backend then
        return replies.unknown_model(txn, name, catalogue.names())
    end
    return backend
end

-- The path is that of the app whose instance is chosen, so that Serve counts the request there. If
-- it is sent once more, to an instance of another app, that one finds in the header what the path
-- begins with (direct_ingress.py).
local function to_pool(txn, pool, backend, path)
    local server = routing.choose(txn, pool)
    if server then
        backend = server.backend
        txn:set_var("txn.rayserve_server", server.name)
    end
    txn:set_var("txn.rayserve_pool", pool.name)
    txn.http:req_set_header("x-rayserve-par-prefix", backend.prefix)
    txn.http:req_set_path(backend.prefix .. path)
end

local function front(txn)
    local path = txn.sf:path()
    local backend, rest = by_prefix(path)
    if txn.sf:method() == "GET" then
        if not backend and path == "/v1/models" then
            return model_list.all(txn)
        end
        local id = rest:match("^/v1/models/(.+)$")
        if id then
            return model_list.one(txn, txn.c:url_dec(id), backend)
        end
    end
    if not backend then
        backend = by_model(txn, path)
        if not backend then
            return
        end
        if backend.pool then
            return to_pool(txn, backend.pool, backend, path)
        end
        if backend.prefix ~= "" then
            txn.http:req_set_path(backend.prefix .. path)
        end
    end
    if #backend.servers > 1 then
        local server = routing.choose(txn, backend)
        if server then
            txn:set_var("txn.rayserve_server", server.name)
        end
    end
end

core.register_action("rayserve_front", { "http-req" }, front, 0)
