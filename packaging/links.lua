-- Has links lead to the page that is made of each file; on the manual page they are their texts.

local source, man

local function page(path)
    if path == "docs/README.md" then
        return "index.html"
    elseif path == "LICENSE" then
        return "https://www.apache.org/licenses/LICENSE-2.0"
    end
    local name = path:match("([^/]+)%.md$")
    return name and name:lower() .. ".html" or path:match("[^/]+$")
end

local function target(link)
    if link:match("^%a+:") or link:match("^#") then
        return link
    end
    local path, anchor = link:match("^([^#]*)(.*)$")
    local folder = source:match("^(.*/)") or ""
    path = path:match("^%.%./") and path:sub(4) or folder .. path
    return page(path) .. anchor
end

return {
    {
        Meta = function(meta)
            source = pandoc.utils.stringify(meta.source)
            man = meta.man ~= nil
        end,
    },
    {
        Link = function(link)
            if man then
                return link.content
            end
            link.target = target(link.target)
            return link
        end,
        Image = function(image)
            image.src = target(image.src)
            return image
        end,
    },
}
