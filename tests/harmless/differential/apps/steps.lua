-- Does what its query says, step by step: see case.rs.
function handle(r)
    local folder = r.filename:match("^(.*)/")
    local out = ""
    for step in (r.args or ""):gmatch("[^~]+") do
        local kind = step:sub(1, 1)
        local rest = step:sub(2):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
        if kind == "S" then
            r.status = tonumber(rest)
        elseif kind == "H" then
            local name, value = rest:match("^([^:]*): ?(.*)$")
            if name == "Content-Type" then
                r.content_type = value
            else
                r.headers_out[name] = value
            end
        elseif kind == "X" then
            out = out .. rest
        elseif kind == "T" or kind == "Z" or kind == "G" then
            local from, bytes = rest:match("(%d+)%.(%d+)")
            local data = io.open(folder .. "/" .. kind .. ".dat", "rb")
            data:seek("set", tonumber(from))
            out = out .. (data:read(tonumber(bytes)) or "")
            data:close()
        elseif kind == "E" then
            r:write(out)
            out = ""
        elseif kind == "F" then
            r:flush()
        elseif kind == "P" then
            r.usleep(tonumber(rest) * 1000)
        elseif kind == "R" then
            r:requestbody()
        end
    end
    return apache2.OK
end
