-- Runs after Quarto has rendered the site.
-- For every page that shows HTML (a table of pandas, an explorer) Quarto adds require.js, jQuery and the manager of
-- Jupyter's widgets from a content network, in case the HTML needs them. Ours does not: without them a page works
-- offline, and asks nobody for anything. A figure's caption is its alternative text too, where it has no other.
-- Quarto's index of the search ends at second headings; functions and classes stand below third ones, and become
-- entries of their own.
local folder = os.getenv("QUARTO_PROJECT_OUTPUT_DIR")

local function read(name)
  local file = io.open(name, "rb")
  local text = file and file:read("a")
  if file then file:close() end
  return text
end

local function write(name, text)
  local file = io.open(name, "wb")
  file:write(text)
  file:close()
end

local function with_alternative(image, rest, caption)
  return image .. ' alt="' .. caption:gsub('"', "&quot;") .. '"' .. rest
end

local function self_contained(page)
  return page
    :gsub('<script src="https://cdn%.jsdelivr%.net/npm/requirejs@[^>]*></script>', "")
    :gsub('<script src="https://cdn%.jsdelivr%.net/npm/jquery@[^>]*></script>', "")
    :gsub('<script src="https://cdn%.jsdelivr%.net/npm/@jupyter%-widgets/html%-manager@[^>]*></script>', "")
    :gsub('<script type="application/javascript">define%(\'jquery\'[^<]*</script>', "")
    :gsub('(<img src="[^"]*" class="[^"]*")(></p>%s*<figcaption>([^<]*)</figcaption>)', with_alternative)
end

local function plain(html)
  local signs = { ["&lt;"] = "<", ["&gt;"] = ">", ["&quot;"] = '"', ["&amp;"] = "&" }
  return (html:gsub("<[^>]*>", ""):gsub("&%a+;", signs):gsub("%s+", " "))
end

-- Public names on a page: heading, code of the signature, and the paragraph below it.
local function names(page, href)
  local found = {}
  local pattern = '<section id="([^"]+)" class="level[34]">%s*<h[34][^>]*>([^<]+)</h[34]>%s*<div class="code%-copy'
  local from = 1
  while true do
    local _, to, id, name = page:find(pattern, from)
    if not to then return found end
    local said = page:match("</pre>.-<p>(.-)</p>", to) or ""
    found[#found + 1] = { href = href .. "#" .. id, name = name, text = plain(said) }
    from = to
  end
end

local index = pandoc.json.decode(read(folder .. "/search.json"), false)
local pages = {}
for _, entry in ipairs(index) do
  local href = entry.href:gsub("#.*", "")
  pages[href] = pages[href] or entry
end
for href, first in pairs(pages) do
  for _, n in ipairs(href:match("^api/") and names(read(folder .. "/" .. href), href) or {}) do
    index[#index + 1] = { objectID = n.href, href = n.href, title = n.name, section = "", text = n.text,
                          crumbs = first.crumbs }
  end
end
table.sort(index, function(a, b) return a.objectID < b.objectID end)
write(folder .. "/search.json", pandoc.json.encode(index))

for name in os.getenv("QUARTO_PROJECT_OUTPUT_FILES"):gmatch("[^\n]+") do
  local page = name:match("%.html$") and read(name)
  local without = page and self_contained(page)
  if without ~= page then write(name, without) end
end
