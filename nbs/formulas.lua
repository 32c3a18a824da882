-- Formulas as MathML without their TeX: the search would show both, glued together.
-- A box is drawn by CSS, since browsers draw none for MathML's.
function Math(formula)
  local html = pandoc.write(pandoc.Pandoc({ pandoc.Plain({ formula }) }), "html", { html_math_method = "mathml" })
  html = html
    :gsub("<annotation.-</annotation>", "")
    :gsub('<menclose notation="box">', '<mrow class="boxed">')
    :gsub("</menclose>", "</mrow>")
  return pandoc.RawInline("html", html)
end
