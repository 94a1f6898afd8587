-- Answers with a known text, then works in the background. See app.php for the query.
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    local bytes = tonumber(query.bytes or 4096)
    local length = query.length or bytes
    local mark = query.mark or "on"

    r.status = tonumber(query.status or 200)
    r.content_type = "text/plain"
    if length ~= "none" then
        r.headers_out["Content-Length"] = tostring(length)
    end
    if mark ~= "none" then
        r.headers_out["X-Finish-Request"] = mark
    end
    if query.close then
        r.headers_out["Connection"] = "close"
    end
    r:write(background.body(bytes))
    r:flush()
    if query.id then
        background.run(r, query.id, tonumber(query.after or 200))
    end
    return apache2.OK
end
