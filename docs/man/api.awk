# api.awk - a public header as a chapter of a manual page, in scdoc(5): each declaration, then what its comment says.
#
# A paragraph of the header is a comment and what it describes, up to an empty line. Comment lines that are indented
# are tables and stay as they are; the others flow. A banner "/* ---- Name ---- */" becomes a section's title.

function escaped(text) {
    gsub(/[\\*_<>#`~]/, "\\\\&", text)
    return text
}

# One declaration on one line; broken after commas where it is too long to read.
function print_function(text,    line, rest, at) {
    gsub(/LLM_API|LLM_MUST_CHECK/, "", text)
    gsub(/[ \t\n]+/, " ", text)
    gsub(/^ | $/, "", text)
    while (length(text) > 76) {
        line = substr(text, 1, 76)
        at = match(line, /,[^,]*$/)
        if (!at)
            break
        print substr(line, 1, at)
        text = "    " substr(text, at + 2)
    }
    print text
}

function name_of(text,    name) { # of a function's declaration
    sub(/\(.*/, "", text)
    match(text, /[a-z_0-9]+$/)
    return substr(text, RSTART, RLENGTH)
}

# The functions of a paragraph by name, then its code: structs as they are laid out, functions wrapped.
function print_code(    i, names, text) {
    for (i = 1; i <= items; i++) {
        text = item[i]
        gsub(/[ \t\n]+/, " ", text)
        if (text ~ /LLM_API/)
            names = names (names == "" ? "" : ", ") "*" escaped(name_of(text)) "*()"
    }
    print (names == "" ? "" : names "\n\n") "```"
    for (i = 1; i <= items; i++)
        if (item[i] ~ /LLM_API/)
            print_function(item[i])
        else
            printf "%s", item[i]
    print "```\n"
}

function print_comment(    i, literal) {
    literal = 0
    for (i = 1; i <= comment_lines; i++) {
        line = comment[i]
        if (line ~ /^  / && !literal) {
            print "```"
            literal = 1
        } else if (literal && line !~ /^ / ) {
            print "```\n"
            literal = 0
        }
        print literal ? substr(line, 3) : escaped(line)
    }
    print literal ? "```\n" : ""
}

function flush_paragraph() {
    if (code != "")
        item[++items] = code
    if (items > 0) {
        print_code()
        print_comment()
    }
    code = ""
    items = comment_lines = depth = 0
}

/^\/\* ---- / {
    flush_paragraph()
    title = $0
    sub(/^\/\* ---- /, "", title)
    sub(/ -+ \*\/$/, "", title)
    print "## " toupper(substr(title, 1, 1)) substr(title, 2) "\n"
    next
}
# The opening comment is for who reads the header; the page has an introduction of its own.
NR == 1 && /^\/\*/ { skipping = 1 }
skipping { if (/\*\/$/) skipping = 0; next }
/^#(ifn?def|if|else|endif|include)/ || /^extern "C"/ { next }
depth == 0 && /^}$/ { next } # of extern "C"
/^#define LLM_[A-Z_]*_H$/ || /^#define (LLM_API|LLM_MUST_CHECK|LLM_PRINTF)/ { next }

code == "" && !in_comment && /^\/\*/ {
    if (items > 0)
        flush_paragraph()
    in_comment = 1
    comment_lines = 0
}
in_comment {
    line = $0
    last = sub(/ *\*\/$/, "", line)
    sub(/^ ?\/?\* ?/, "", line)
    if (line != "" || (!last && comment_lines > 0))
        comment[++comment_lines] = line
    if (last)
        in_comment = 0
    next
}
/^$/ && depth == 0 { flush_paragraph(); next }
{
    depth += gsub(/\{/, "{") - gsub(/\}/, "}")
    code = code $0 "\n"
    if (depth == 0 && /;/) {
        item[++items] = code
        code = ""
    }
}
END { flush_paragraph() }
