-- Answers of the front itself, in OpenAI's error form.

local json = require("rayserve_par.json")

local replies = {}

local function known(names)
    if #names == 0 then
        return "No model is known yet."
    end
    return "Known models: " .. table.concat(names, ", ") .. "."
end

local function send(txn, status, reason, body, headers)
    headers = headers or {}
    headers["content-type"] = { "application/json" }
    txn:done(txn:reply({ status = status, reason = reason, headers = headers, body = body }))
end

local function fail(txn, status, reason, message, kind, param, code, headers)
    send(txn, status, reason, '{"error":{"message":' .. json.quote(message)
        .. ',"type":' .. json.quote(kind)
        .. ',"param":' .. (param and json.quote(param) or "null")
        .. ',"code":' .. json.quote(code) .. "}}", headers)
end

function replies.document(txn, body)
    send(txn, 200, "OK", body)
end

function replies.unknown_model(txn, name, names)
    if #names == 0 then
        -- The first instances are starting, and one of them may be it.
        return replies.not_ready(txn, "No model answers yet; the first are starting.")
    end
    fail(txn, 404, "Not Found",
        "The model `" .. name:sub(1, 200) .. "` does not exist. " .. known(names),
        "invalid_request_error", "model", "model_not_found")
end

function replies.no_model(txn, names)
    fail(txn, 400, "Bad Request",
        "Several models are served here: the request must name one in `model`, and be valid JSON. "
            .. known(names),
        "invalid_request_error", "model", "missing_required_parameter")
end

function replies.no_model_in_sight(txn, buffer_bytes)
    fail(txn, 413, "Payload Too Large",
        "No `model` in the first " .. buffer_bytes .. " bytes of the body, which is all that is "
            .. "looked at: put `model` first, or let the operator raise "
            .. "RAYSERVE_PAR_FRONT_BUFFER_BYTES.",
        "invalid_request_error", "model", "model_not_in_sight")
end

function replies.not_ready(txn, message)
    fail(txn, 503, "Service Unavailable", message, "service_unavailable", nil,
        "model_not_ready", { ["retry-after"] = { "5" } })
end

-- What a replica answered (401 for a wrong key) goes to the client as it is.
function replies.pass_on(txn, status, body)
    send(txn, status, "Refused", body)
end

return replies
