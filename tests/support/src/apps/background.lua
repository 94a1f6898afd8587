-- For Lua applications: the known text, and background work that waits at a gate.
local background = {}

function background.body(bytes)
    local lines = {}
    for line = 1, bytes / 38 + 1 do
        lines[line] = string.format("%07d of the answer to your request\n", line)
    end
    return table.concat(lines):sub(1, bytes)
end

-- The whole of a marked response: 4096 bytes.
function background.answer(r)
    r.content_type = "text/plain"
    r.headers_out["Content-Length"] = "4096"
    r.headers_out["X-Finish-Request"] = "on"
    r:write(background.body(4096))
    r:flush()
end

local function exists(path)
    local file = io.open(path)
    if file then
        file:close()
    end
    return file ~= nil
end

local function write(path, text)
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
end

-- Piece by piece: mod_http2 would keep a whole one in memory, whatever its size.
local function leak(r, bytes)
    local piece = ("L"):rep(100000)
    for _ = 1, math.floor(bytes / #piece) do
        r:write(piece)
    end
    r:write(piece:sub(1, bytes % #piece))
end

-- As background() in background.php.
function background.run(r, id, after)
    local gates = "@GATES@"
    local done = { began = r:clock(), gate = 0, ended = 0 }
    local half = math.floor(after / 2)
    local trouble = ""

    write(gates .. "/" .. id .. ".began", "")
    local ok, problem = pcall(function()
        leak(r, half)
        r:flush()
        local limit = r:clock() + 75000000
        while not exists(gates .. "/" .. id .. ".gate") do
            if r:clock() >= limit then
                trouble = "the gate stayed shut; "
                break
            end
            r.usleep(10000)
        end
        done.gate = r:clock()
        leak(r, after - half)
        r:flush()
        done.ended = r:clock()
    end)
    if not ok then
        trouble = trouble .. tostring(problem)
    end

    local text = string.format("began=%.0f\ngate=%.0f\nended=%.0f\nerrors=%s\n",
        done.began, done.gate, done.ended, trouble)
    write(gates .. "/" .. id .. ".writing", text)
    os.rename(gates .. "/" .. id .. ".writing", gates .. "/" .. id .. ".done")
end

return background
