# config.awk - what `llmd --print-config` prints as scdoc(5): a section for each table, a definition for each key.
function escaped(text) {
    gsub(/[\\*_<>#`~|]/, "\\\\&", text)
    return text
}
/^\[/ { table = substr($0, 2, length($0) - 2); print "## [" escaped(table) "]\n"; next }
/^# / { sentence = substr($0, 3); next }
/ = / {
    at = index($0, " = ")
    print "*" escaped(substr($0, 1, at - 1)) "* = " escaped(substr($0, at + 3))
    print "\t" escaped(sentence) "\n"
}
