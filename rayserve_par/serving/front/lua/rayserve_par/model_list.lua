-- GET /v1/models over all apps, and GET /v1/models/{id}.
--
-- The replicas are asked with the client's own key, and what they say is passed on unchanged: the
-- front holds no document that a key should protect. An app that does not answer is left out, and
-- one of a pool's answers for all of them.

local catalogue = require("rayserve_par.catalogue")
local fleet = require("rayserve_par.fleet")
local http = require("rayserve_par.http")
local json = require("rayserve_par.json")
local replies = require("rayserve_par.replies")

local TIMEOUT_SECONDS = 2

local model_list = {}

local function ask(txn, place)
    local headers = { ["x-rayserve-par-front"] = "1" }
    for _, name in ipairs({ "authorization", "x-api-key" }) do
        local content = txn.sf:req_hdr(name)
        headers[name] = content ~= "" and content or nil
    end
    for _, server in ipairs(place.servers) do
        if server.usable then
            local path = server.backend.prefix .. "/v1/models"
            local status, body = http.get(server, path, headers, TIMEOUT_SECONDS)
            if status then
                return status, body
            end
        end
    end
    return nil
end

function model_list.all(txn)
    local models, refused_status, refused_body, answered = {}, nil, nil, false
    for _, place in ipairs(fleet.places()) do
        local status, body = ask(txn, place)
        if status == 200 then
            answered = true
            for _, model in ipairs(json.raw_data(body)) do
                models[#models + 1] = model
            end
        elseif status then
            refused_status, refused_body = status, body
        end
    end
    if answered then
        replies.document(txn, '{"object":"list","data":[' .. table.concat(models, ",") .. "]}")
    elseif refused_status then
        replies.pass_on(txn, refused_status, refused_body)
    else
        replies.not_ready(txn, "No instance of any model can answer now.")
    end
end

function model_list.one(txn, id, backend)
    local place = backend
    if not place then
        local found = catalogue.backend_of(id)
        if not found then
            return replies.unknown_model(txn, id, catalogue.names())
        end
        place = found.pool or found
    end
    local status, body = ask(txn, place)
    if not status then
        return replies.not_ready(txn, "No instance of this model can answer now.")
    elseif status ~= 200 then
        return replies.pass_on(txn, status, body)
    end
    local names = {}
    for _, model in ipairs(json.raw_data(body)) do
        local name = (json.decode(model) or {}).id
        if name == id then
            return replies.document(txn, model)
        end
        names[#names + 1] = name
    end
    replies.unknown_model(txn, id, names)
end

return model_list
