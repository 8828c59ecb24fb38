-- A field of a multipart/form-data body (RFC 7578), which may be cut off behind it.

local form = {}

-- The value of a parameter of a header (`; name="model"`), or nil. Other quoted values are passed
-- over as a whole: a file's name may hold anything.
local function parameter(content, wanted)
    content = content:gsub('\\"', "_")
    local at = content:find(";", 1, true)
    while at do
        local name, start = content:match("^;%s*([^=;%s]+)%s*=%s*()", at)
        if not name then
            return nil
        end
        local found, after = content:match('^"([^"]*)"()', start)
        if not found then
            found, after = content:match("^([^;%s]*)()", start)
        end
        if name:lower() == wanted then
            return found
        end
        at = content:find(";", after, true)
    end
    return nil
end

local function field_name(head)
    for name, content in head:gmatch("\r\n([^:\r\n]+):([^\r\n]*)") do
        if name:lower() == "content-disposition" then
            return parameter(content, "name")
        end
    end
    return nil
end

-- The text of the field `wanted`, or nil where it is not there or not there whole.
function form.field(body, content_type, wanted)
    local boundary = parameter(content_type, "boundary")
    if not boundary or boundary == "" then
        return nil
    end
    local delimiter = "\r\n--" .. boundary
    local _, at = body:find(delimiter:sub(3), 1, true)
    while at do
        local head_end, content = body:find("\r\n\r\n", at + 1, true)
        local next_start, next_end = body:find(delimiter, content or at, true)
        if not head_end or not next_start then
            return nil
        end
        if field_name(body:sub(at + 1, head_end - 1)) == wanted then
            return body:sub(content + 1, next_start - 1)
        end
        at = next_end
    end
    return nil
end

return form
