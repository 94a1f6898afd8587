-- Answers, lets the client go, and works on.
function handle(r)
    local query = r:parseargs()
    local answer = ("This is the answer to your request.\n"):rep(100)

    r.content_type = "text/plain"
    r.headers_out["Content-Length"] = tostring(#answer)
    r.headers_out["X-Finish-Request"] = "on"
    r:write(answer)
    r:flush()

    r.usleep(math.floor(1000000 * tonumber(query.seconds or 2)))

    local id = (query.id or "you"):match("^[%d-]+$") or "you"
    local log = assert(io.open("@GATES@/work.log", "a"))
    log:write(os.date("%H:%M:%S "), id, ": work done by Lua\n")
    log:close()
    assert(io.open("@GATES@/" .. id .. ".done", "w")):close()
    return apache2.OK
end
