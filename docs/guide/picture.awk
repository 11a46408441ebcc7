# picture.awk - one picture of the guide: rows of questions, and of cases with their answers at the right.
# -v title=TEXT; a line is "ask | TEXT" or "case | TEXT | ANSWER".

function escape(text) {
	gsub(/&/, "\\&amp;", text)
	gsub(/</, "\\&lt;", text)
	return text
}

# Breaks a text into lines[1..n] of so many characters; returns n.
function wrap(text, most,    words, i, count, n) {
	count = split(text, words, " ")
	n = 1
	lines[n] = words[1]
	for (i = 2; i <= count; i++)
		if (length(lines[n]) + 1 + length(words[i]) <= most) lines[n] = lines[n] " " words[i]
		else lines[++n] = words[i]
	return n
}

function box(class, x, width, top, height) {
	body = body sprintf("<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n",
		class, x, top, width, height)
}

function write(class, x, middle, n,    i) {
	for (i = 1; i <= n; i++)
		body = body sprintf("<text class=\"%s\" x=\"%d\" y=\"%d\">%s</text>\n",
			class, x, middle + 5 + (i - (n + 1) / 2) * 17, escape(lines[i]))
}

function path(class, shape) {
	body = body sprintf("<path class=\"%s\" d=\"%s\"/>\n", class, shape)
}

function ask(text,    n) {
	n = wrap(text, 54)
	if (y > 0) y += 10
	write("ask", 10, y + 8 + n * 8.5, n)
	y += n * 17 + 14
}

function choice(text, answer,    n, m, height) {
	m = wrap(answer, 18)
	height = m
	n = wrap(text, 28)
	if (n > height) height = n
	height = height * 17 + 14
	box("case", 10, 230, y, height)
	write("text", 20, y + height / 2, n)
	path("line", sprintf("M240 %dH266m-6 -4l6 4l-6 4", y + height / 2))
	box("answer", 268, 162, y, height)
	wrap(answer, 18)
	write("text strong", 278, y + height / 2, m)
	y += height + 8
}

BEGIN { FS = " *\\| *"; y = 0 }
$1 == "ask" { ask($2) }
$1 == "case" { choice($2, $3) }

END {
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 440 %d\" width=\"440\" height=\"%d\" role=\"img\">\n", y + 4, y + 4
	printf "<title>%s</title>\n<style>\n", escape(title)
	print "text { font: 14px 'DejaVu Sans', Verdana, sans-serif; fill: #1a1a1a; }"
	print ".ask, .strong { font-weight: bold; }"
	print ".page { fill: #fff; } .case { fill: #f3f4f6; stroke: #9aa0a8; } .answer { fill: #dcebfa; stroke: #4a7fb5; }"
	print ".line { fill: none; stroke: #555; stroke-width: 1.5; }"
	print "@media (prefers-color-scheme: dark) {"
	print "text { fill: #eee; } .page { fill: #16181c; } .case { fill: #262a30; stroke: #6b727c; }"
	print ".answer { fill: #173a5c; stroke: #5b93cc; } .line { stroke: #aaa; }"
	print "}\n</style>"
	printf "<rect class=\"page\" width=\"440\" height=\"%d\"/>\n%s</svg>\n", y + 4, body
}
