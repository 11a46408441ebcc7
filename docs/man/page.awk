# page.awk - the manual pages of one header, from its comments and declarations.
#
#	awk -v out=FOLDER -v version=1.0.0 -v header=filelock.h -f page.awk pages filelock.h
#
# The comment in front of a declaration belongs to it, and to the declarations that follow without one.
# The comment at the head goes to FOLDER/head (filelock.h), or into the first page of the header.

# --- reading ---

function trim(s) {
	sub(/^[ \t]+/, "", s)
	sub(/[ \t]+$/, "", s)
	return s
}

FNR == 1 { file++ }

file == 1 && !/^#/ && NF {
	n = split($0, part, "|")
	count = split(part[3], names, " ")
	for (i = 1; i <= count; i++)
		page_of[names[i]] = trim(part[1])
	about[trim(part[1])] = trim(part[2])
	structs_of[trim(part[1])] = n > 3 ? trim(part[4]) : ""
	next
}
file == 1 { next }

# A line of a comment, without the frame.
function comment_line(s) {
	sub(/[ \t]*\*\/[ \t]*$/, "", s)
	if (!sub(/^[ \t]*\/?\*+ ?/, "", s))
		sub(/^\t*   /, "", s) # of a comment without stars
	return s
}

in_comment {
	comment = comment "\n" comment_line($0)
	if (/\*\//)
		end_comment()
	next
}
/^\/\*/ {
	comment = comment_line($0)
	in_comment = 1
	if (/\*\//)
		end_comment()
	next
}

function end_comment() {
	in_comment = 0
	if (head == "")
		head = comment
}

/^struct [a-z_]+ \{$/ {
	struct_name = $2
	struct_text[struct_name] = comment == "" ? "" : "/* " comment " */\n"
}
struct_name != "" {
	struct_text[struct_name] = struct_text[struct_name] $0 "\n"
	if (/^\};/) {
		struct_name = ""
		comment = ""
	}
	next
}
/^(FILELOCK_API|typedef void)/ && !/^#/ { declaration = ""; declaring = 1 }
declaring {
	declaration = declaration " " trim($0)
	if (/;$/) {
		declaring = 0
		end_declaration(trim(declaration))
	}
	next
}
/^$/ { last_comment = "" }
/^(enum|#)/ { comment = "" }

function end_declaration(s, name) {
	sub(/^FILELOCK_API /, "", s)
	sub(/;$/, "", s)
	name = s
	sub(/\(.*/, "", name)
	if (s ~ /^typedef/) {
		match(s, /\(\*[a-z_]+\)/)
		types = types (comment == "" ? "" : "/* " comment " */\n") s ";\n\n"
		comment = ""
		return
	}
	sub(/.*[ *]/, "", name)
	order[++functions] = name
	text_of[name] = comment
	types_of[name] = types
	declaration_of[name] = s
	comment = types = ""
}

# --- writing ---

function quoted(s) {
	gsub(/\\/, "\\e", s)
	gsub(/…/, "...", s)
	gsub(/µ/, "u", s)
	gsub(/[─>]+/, ">", s)
	gsub(/-/, "\\-", s)
	if (s ~ /^[.']/)
		s = "\\\\&" s
	return s
}

# Filled text: a line for each sentence, none too long.
function fill(s, n, words, i, line) {
	gsub(/\n/, " ", s)
	gsub(/[ \t]+/, " ", s)
	n = split(trim(s), words, " ")
	for (i = 1; i <= n; i++) {
		line = line == "" ? words[i] : line " " words[i]
		if (i == n || length(line " " words[i + 1]) > 70 || words[i] ~ /[.?!:][)"]?$/) {
			print quoted(line) >to
			line = ""
		}
	}
}

function display(s, n, lines, i) {
	print ".Bd -literal" >to
	n = split(s, lines, "\n")
	for (i = 1; i <= n; i++) {
		gsub(/\t/, "        ", lines[i])
		sub(/ +$/, "", lines[i])
		if (lines[i] != "" || i < n)
			print lines[i] == "" ? "" : quoted(lines[i]) >to
	}
	print ".Ed" >to
}

function indent_of(line) {
	match(line, /^ */)
	return RLENGTH
}

# What a line of a comment begins: code, an item of a list, a paragraph, or nothing.
function begins(line) {
	if (line ~ /^\t/)
		return inside == "code" ? "" : "code"
	if (line ~ /^ *- /)
		return "bullet"
	if (line ~ /^ ? ?[0-9]\. /)
		return "number"
	if (line ~ /^ ? ?[^ ]+( [^ ]+)?  +[^ ]/)
		return "tag"
	if (list == "tag" && indent_of(line) == indent && line ~ /^ *FILELOCK_[A-Z]+ /)
		return "tag"
	if (list != "")
		return indent_of(line) > indent ? "" : "text"
	return inside != "text" || indent_of(line) >= 2 ? "text" : ""
}

function end_block() {
	if (block ~ /[^ \n]/) {
		if (inside == "code")
			display(block)
		else
			fill(block)
		fresh = 0
	}
	block = ""
}

function end_list() {
	if (list != "")
		print ".El" >to
	list = ""
}

# A list goes on until a paragraph begins.
function begin_block(kind, line, word) {
	end_block()
	inside = kind
	if (kind == "text" || kind == "code") {
		end_list()
		if (!fresh && kind == "text")
			print ".Pp" >to
		block = line
		return
	}
	indent = indent_of(line)
	if (list != kind) {
		end_list()
		list = kind
		print ".Bl " (kind == "bullet" ? "-bullet" : "-tag -width Ds") >to
	}
	line = trim(line)
	if (kind == "bullet") {
		print ".It" >to
		block = substr(line, 3)
		return
	}
	match(line, kind == "tag" && line ~ /  / ? "  +" : " ")
	word = substr(line, 1, RSTART - 1)
	print ".It " quoted(word) >to
	block = trim(substr(line, RSTART))
	fresh = 0
}

function paragraph(s, n, lines, i, kind) {
	n = split(s, lines, "\n")
	inside = ""
	for (i = 1; i <= n; i++) {
		kind = begins(lines[i])
		if (kind != "")
			begin_block(kind, lines[i])
		else
			block = block "\n" lines[i]
	}
	end_block()
	end_list()
}

function paragraphs(s, n, part, i) {
	n = split(s, part, /\n[ \t]*\n/)
	for (i = 1; i <= n; i++) {
		sub(/^\n+/, "", part[i])
		sub(/[\n ]+$/, "", part[i])
		if (part[i] != "" && !title(part[i]))
			paragraph(part[i])
	}
}

# "Threads. Different threads …" begins a subsection, in the comment at the head only.
function title(s, words) {
	if (!in_head || !match(s, /^[A-Z][a-z\/ ]+( \([A-Z_]+\))?\. /))
		return 0
	if (RLENGTH > 45)
		return 0
	words = substr(s, 1, RLENGTH - 2)
	print ".Ss " words >to
	fresh = 1
	paragraph(substr(s, RLENGTH + 1))
	fresh = 0
	return 1
}

# filelock.h - what it is.
function write_head(s) {
	sub(/^[ \n]*/, "", s)
	sub(/^[a-z.]+ - [^\n]*(\n[^\n]+)*\n/, "", s)
	in_head = 1
	fresh = 1
	paragraphs(s)
	in_head = 0
}

# Arguments at the commas that are in no parentheses.
function write_arguments(s, i, c, level, argument) {
	for (i = 1; i <= length(s); i++) {
		c = substr(s, i, 1)
		level += (c == "(") - (c == ")")
		if (c == "," && level == 0) {
			print ".Fa \"" trim(argument) "\"" >to
			argument = ""
		} else {
			argument = argument c
		}
	}
	print ".Fa \"" trim(argument) "\"" >to
}

function write_synopsis(name, s, type) {
	s = declaration_of[name]
	type = s
	sub(/[a-z_]+\(.*/, "", type)
	print ".Ft \"" trim(type) "\"" >to
	print ".Fo " name >to
	sub(/^[^(]*\(/, "", s)
	sub(/\)[^)]*$/, "", s)
	write_arguments(s)
	print ".Fc" >to
}

function write_names(page, i, n, count) {
	for (i = 1; i <= functions; i++)
		count += page_of[order[i]] == page
	for (i = 1; i <= functions; i++)
		if (page_of[order[i]] == page)
			print ".Nm " order[i] (++n < count ? " ," : "") >to
}

function write_page(page, i, library, first_of_header, n, names) {
	to = out "/man3/" page ".3"
	library = header == "event.h" ? "filelock_event" : header == "etcd.h" ? "filelock_etcd" : "filelock"
	print ".Dd November 30, 2026" >to
	print ".Dt " toupper(page) " 3" >to
	print ".Os" >to
	print ".Sh NAME" >to
	write_names(page)
	print ".Nd " about[page] >to
	print ".Sh LIBRARY" >to
	print "pkg\\-config " library " (version " version ")" >to
	print ".Sh SYNOPSIS" >to
	print ".In filelock/" header >to
	for (i = 1; i <= functions; i++)
		if (page_of[order[i]] == page)
			write_synopsis(order[i])
	print ".Sh DESCRIPTION" >to
	fresh = 1
	if (page == page_of[order[1]] && header != "filelock.h")
		write_head(head)
	for (i = 1; i <= functions; i++) {
		if (page_of[order[i]] != page)
			continue
		print ".Ss " order[i] >to
		fresh = 1
		if (types_of[order[i]] != "")
			display(types_of[order[i]])
		if (text_of[order[i]] != "")
			paragraphs(text_of[order[i]])
		else if (types_of[order[i]] == "")
			print "See above." >to
	}
	n = split(structs_of[page], names, " ")
	for (i = 1; i <= n; i++) {
		print ".Ss struct " names[i] >to
		display(struct_text[names[i]])
	}
	print ".Sh RETURN VALUES" >to
	print "A call of type" >to
	print ".Vt int" >to
	print "returns 0 or a negative error, unless said otherwise;" >to
	print ".Xr filelock 7" >to
	print "has those that any call may give." >to
	print ".Sh SEE ALSO" >to
	print ".Xr filelock 1 ," >to
	print ".Xr filelock 7" >to
	close(to)
	for (i = 1; i <= functions; i++)
		if (page_of[order[i]] == page && order[i] != page) {
			to = out "/man3/" order[i] ".3"
			print ".so man3/" page ".3" >to
			close(to)
		}
}

END {
	for (i = 1; i <= functions; i++)
		if (!(order[i] in page_of)) {
			page_of[order[i]] = order[i]
			about[order[i]] = "a call of the library of file locks"
		}
	for (i = 1; i <= functions; i++)
		if (!done[page_of[order[i]]]++)
			write_page(page_of[order[i]])
	if (header == "filelock.h") {
		to = out "/head"
		write_head(head)
		close(to)
	}
}
