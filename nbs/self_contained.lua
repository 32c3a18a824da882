-- Runs after Quarto has rendered the site. For every page that shows HTML (a table of pandas, an explorer) Quarto adds require.js, jQuery and the manager of
-- Jupyter's widgets from a content network, in case the HTML needs them. Ours does not: without these lines a page works offline, and asks nobody for anything.
-- A figure's caption is its alternative text too, where it has no other.
for name in os.getenv("QUARTO_PROJECT_OUTPUT_FILES"):gmatch("[^\n]+") do
  local file = name:match("%.html$") and io.open(name, "rb")
  if file then
    local page = file:read("a")
    file:close()
    local without = page
      :gsub('<script src="https://cdn%.jsdelivr%.net/npm/requirejs@[^>]*></script>', "")
      :gsub('<script src="https://cdn%.jsdelivr%.net/npm/jquery@[^>]*></script>', "")
      :gsub('<script src="https://cdn%.jsdelivr%.net/npm/@jupyter%-widgets/html%-manager@[^>]*></script>', "")
      :gsub('<script type="application/javascript">define%(\'jquery\'[^<]*</script>', "")
      :gsub('(<img src="[^"]*" class="[^"]*")(></p>%s*<figcaption>([^<]*)</figcaption>)', function(image, rest, caption) return image .. ' alt="' .. caption:gsub('"', "&quot;") .. '"' .. rest end)
    if without ~= page then
      file = io.open(name, "wb")
      file:write(without)
      file:close()
    end
  end
end
