-- JSON as far as the front needs it: decode small documents of our own replicas, find one member
-- of a client's, quote strings.

local json = {}

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local QUOTED = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
local DEEPEST = 32
local BACKSLASH = 92

local value

local function skip(text, at)
    return text:find("[^ \t\r\n]", at) or #text + 1
end

-- The character of `\uXXXX` whose digits begin at `at`, and what follows; a pair of surrogates is
-- one character, half a pair is none.
local function code_point(raw, at)
    local point = tonumber(raw:match("^%x%x%x%x", at) or error("four digits expected"), 16)
    at = at + 4
    local low = raw:match("^\\u([dD][c-fC-F]%x%x)", at)
    if point >= 0xD800 and point < 0xDC00 and low then
        return utf8.char(0x10000 + ((point - 0xD800) << 10) + tonumber(low, 16) - 0xDC00), at + 6
    end
    return (point < 0xD800 or point > 0xDFFF) and utf8.char(point) or "?", at
end

local function unescape(raw)
    local parts, at = {}, 1
    while true do
        local slash = raw:find("\\", at, true)
        parts[#parts + 1] = raw:sub(at, (slash or 0) - 1)
        if not slash then
            return table.concat(parts)
        end
        local letter = raw:sub(slash + 1, slash + 1)
        if letter == "u" then
            parts[#parts + 1], at = code_point(raw, slash + 2)
        else
            parts[#parts + 1], at = ESCAPES[letter] or letter, slash + 2
        end
    end
end

-- Where the string ends whose opening quote is at `at`: at a quote behind an even number of backslashes.
local function closing_quote(text, at)
    local finish = at
    while true do
        finish = text:find('"', finish + 1, true) or error("unfinished string")
        local before = finish - 1
        while text:byte(before) == BACKSLASH do
            before = before - 1
        end
        if (finish - before) % 2 == 1 then
            return finish
        end
    end
end

local function text_value(text, at)
    if text:sub(at, at) ~= '"' then
        error("expected a string at " .. at)
    end
    local finish = closing_quote(text, at)
    return unescape(text:sub(at + 1, finish - 1)), finish + 1
end

local function members(text, at, close, read)
    at = skip(text, at + 1)
    if text:sub(at, at) == close then
        return at + 1
    end
    while true do
        at = skip(text, read(at))
        local mark = text:sub(at, at)
        if mark == close then
            return at + 1
        elseif mark ~= "," then
            error("expected , or " .. close .. " at " .. at)
        end
        at = skip(text, at + 1)
    end
end

-- A member's key, and where its value begins.
local function member_key(text, at)
    local key, colon = text_value(text, at)
    colon = skip(text, colon)
    if text:sub(colon, colon) ~= ":" then
        error("expected : at " .. colon)
    end
    return key, skip(text, colon + 1)
end

function value(text, at, depth)
    if depth > DEEPEST then
        error("too deep")
    end
    at = skip(text, at)
    local mark = text:sub(at, at)
    if mark == '"' then
        return text_value(text, at)
    elseif mark == "{" then
        local found = {}
        return found, members(text, at, "}", function(start)
            local key, item_at = member_key(text, start)
            local item, after = value(text, item_at, depth + 1)
            found[key] = item
            return after
        end)
    elseif mark == "[" then
        local found = {}
        return found, members(text, at, "]", function(start)
            local item, after = value(text, start, depth + 1)
            found[#found + 1] = item
            return after
        end)
    end
    local word = text:match("^[%w%.%+%-]+", at)
    if not word then
        error("unexpected character at " .. at)
    end
    local after = at + #word
    if word == "true" then
        return true, after
    elseif word == "false" then
        return false, after
    elseif word == "null" then
        return nil, after
    end
    return tonumber(word) or error("unexpected word " .. word), after
end

-- The value of a document, or nil where it is no JSON.
function json.decode(text)
    local ok, found = pcall(value, text, 1, 0)
    return ok and found or nil
end

-- Behind the object or array that begins at `at`. It may be as deep as it likes, and is not checked.
local function behind_nested(text, at)
    local depth = 0
    repeat
        at = text:find('["%[%]{}]', at) or error("unfinished")
        local mark = text:sub(at, at)
        if mark == '"' then
            at = closing_quote(text, at)
        else
            depth = depth + ((mark == "{" or mark == "[") and 1 or -1)
        end
        at = at + 1
    until depth == 0
    return at
end

local function behind(text, at)
    local mark = text:sub(at, at)
    if mark == '"' then
        return closing_quote(text, at) + 1
    elseif mark == "{" or mark == "[" then
        return behind_nested(text, at)
    end
    return text:find("[%s,}]", at) or error("unfinished")
end

local function find_text(text, wanted)
    local at = skip(text, 1)
    local mark = text:sub(at, at) == "{" and ","
    while mark == "," do
        local key, item_at = member_key(text, skip(text, at + 1))
        if key == wanted and text:sub(item_at, item_at) == '"' then
            return (text_value(text, item_at))
        end
        at = skip(text, behind(text, item_at))
        mark = text:sub(at, at)
    end
    return nil
end

-- The string under `wanted` at the top of a document, or nil. What stands before it is passed over
-- and what stands behind it is not looked at: it may be cut off.
function json.find_text(text, wanted)
    local ok, found = pcall(find_text, text, wanted)
    return ok and found or nil
end

-- A JSON string of any bytes: control characters are escaped, bytes that are no UTF-8 become "?".
function json.quote(text)
    local _, wrong = utf8.len(text)
    while wrong do
        text = text:sub(1, wrong - 1) .. "?" .. text:sub(wrong + 1)
        _, wrong = utf8.len(text, wrong)
    end
    return '"' .. text:gsub('[%c"\\]', function(character)
        return QUOTED[character] or string.format("\\u%04x", character:byte())
    end) .. '"'
end

-- The raw texts of the objects in the array `data` of a list document; nothing is re-encoded.
function json.raw_data(text)
    local at = text:match('^%s*{.-"data"%s*:%s*%[()')
    if not at then
        return {}
    end
    local found, depth, start = {}, 0, nil
    while true do
        at = text:find('["{}%]]', at)
        if not at then
            return found
        end
        local mark = text:sub(at, at)
        if mark == '"' then
            local ok, _, after = pcall(text_value, text, at)
            if not ok then
                return found
            end
            at = after
        else
            if mark == "{" then
                start = depth == 0 and at or start
                depth = depth + 1
            elseif mark == "}" then
                depth = depth - 1
                if depth == 0 then
                    found[#found + 1] = text:sub(start, at)
                end
            elseif depth == 0 then
                return found
            end
            at = at + 1
        end
    end
end

return json
