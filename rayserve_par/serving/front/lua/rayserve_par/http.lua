-- GET from a replica over a connection of its own.

local http = {}

-- status, headers; or nil where the head did not come whole.
local function head(socket)
    local line = socket:receive("*l")
    local status = line and tonumber(line:match("^HTTP/%d%.%d (%d%d%d)"))
    local headers = {}
    while status do
        line = socket:receive("*l")
        if not line then
            return nil
        elseif line == "" then
            return status, headers
        end
        local name, content = line:match("^([^:]+): *(.-)%s*$")
        if name then
            headers[name:lower()] = content
        end
    end
    return nil
end

local function exchange(socket, request)
    socket:send(request)
    local status, headers = head(socket)
    if not status then
        return nil
    end
    local length = tonumber(headers["content-length"])
    if length == 0 then
        return status, ""
    end
    -- An answer to HTTP/1.0 without a length ends with its connection.
    local body = socket:receive(length or "*a")
    return body and status, body
end

-- status, body; or nil and "unreachable" (no connection) or "silent" (no whole answer in time).
function http.get(server, path, headers, timeout_seconds)
    local socket = core.tcp()
    socket:settimeout(timeout_seconds)
    if not socket:connect(server.host, server.port) then
        socket:close()
        return nil, "unreachable"
    end
    local lines = { "GET " .. path .. " HTTP/1.0", "Host: " .. server.host }
    for name, content in pairs(headers or {}) do
        lines[#lines + 1] = name .. ": " .. content
    end
    local status, body =
        exchange(socket, table.concat(lines, "\r\n") .. "\r\nConnection: close\r\n\r\n")
    socket:close()
    if not status then
        return nil, "silent"
    end
    return status, body
end

return http
