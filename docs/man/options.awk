# options.awk - what argp(3) prints for --help (unbroken: ARGP_HELP_FMT=rmargin=9999) as scdoc(5) definitions.
/^ +-/ {
    text = $0
    sub(/^ +/, "", text)
    at = match(text, /  +/) # names, two blanks or more, sentence
    names = at ? substr(text, 1, at - 1) : text
    sentence = at ? substr(text, at + RLENGTH) : ""
    sub(/, -[?]|-[?], /, "", names)
    gsub(/[\\*_<>#`~|]/, "\\\\&", sentence)
    count = split(names, parts, /, /)
    line = ""
    for (i = 1; i <= count; i++) {
        name = parts[i]
        value = ""
        if ((equals = index(name, "=")) > 0) {
            value = substr(name, equals + 1)
            name = substr(name, 1, equals - 1)
            sub(/\[$/, "", name)
            sub(/\]$/, "", value)
        }
        gsub(/\|/, "\\|", value)
        line = line (i > 1 ? ", " : "") "*" name "*" (value == "" ? "" : "=_" value "_")
    }
    print line
    print "\t" sentence "\n"
}
