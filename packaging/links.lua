-- Has links lead to the page that is made of each file. On the manual page links are their texts, and tables are lists: terminals are narrow.

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
        Table = function(wide)
            if not man then
                return nil
            end
            local simple = pandoc.utils.to_simple_table(wide)
            local items = {}
            for _, row in ipairs(simple.rows) do
                local term = pandoc.utils.blocks_to_inlines(row[1])
                local said = {}
                for column = 2, #row do
                    local text = pandoc.utils.blocks_to_inlines(row[column])
                    local head = pandoc.utils.stringify(simple.headers[column])
                    if column > 2 and #text > 0 and head ~= "" then
                        table.insert(text, 1, pandoc.Space())
                        table.insert(text, 1, pandoc.Emph(head .. ":"))
                    end
                    if #text > 0 then
                        table.insert(said, pandoc.Para(text))
                    end
                end
                table.insert(items, { term, { said } })
            end
            return pandoc.DefinitionList(items)
        end,
        Image = function(image)
            image.src = target(image.src)
            return image
        end,
    },
}
