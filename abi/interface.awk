# interface.awk - public headers as a C program that prints the binary interface they promise: every function's declaration,
# every struct's size and fields with their places, every enumerator's and constant's value.
#
# Understands C as the public headers write it: one declarator in a declaration, no bit fields, no unions.

function squeezed(text) {
    gsub(/[ \t\n]+/, " ", text)
    gsub(/^ | $/, "", text)
    return text
}

function quoted(text) {
    gsub(/\\/, "\\\\", text)
    gsub(/"/, "\\\"", text)
    return "\"" text "\""
}

function last_name(text) { # "const char *const *stop_strings", "char message[192]"
    sub(/(\[[^]]*\])+$/, "", text)
    match(text, /[A-Za-z_0-9]+$/)
    return substr(text, RSTART, RLENGTH)
}

function print_struct(body, name,    count, fields, i, field) {
    printf "    print_struct(%s, sizeof(%s), alignof(%s));\n", quoted(name), name, name
    count = split(body, fields, ";")
    for (i = 1; i <= count; i++) {
        field = squeezed(fields[i])
        if (field != "")
            printf "    print_field(%s, offsetof(%s, %s), sizeof((%s){0}.%s));\n", quoted(field), name,
                last_name(field), name, last_name(field)
    }
}

function print_enum(body, tag,    count, values, i, value) {
    printf "    print_enum(%s, sizeof(enum %s));\n", quoted(tag), tag
    count = split(body, values, ",")
    for (i = 1; i <= count; i++) {
        value = values[i]
        sub(/=.*/, "", value)
        value = squeezed(value)
        if (value != "")
            printf "    print_value(%s, (unsigned long long)%s);\n", quoted(value), value
    }
}

# One whole declaration, without its ';'.
function declare(text,    body, head, tail) {
    text = squeezed(text)
    if (text ~ /LLM_API/) {
        gsub(/LLM_API|LLM_MUST_CHECK/, "", text)
        printf "    print_function(%s);\n", quoted(squeezed(text))
    } else if (text ~ /\{/) {
        head = substr(text, 1, index(text, "{") - 1)
        body = text
        sub(/^[^{]*\{/, "", body)
        tail = body
        sub(/.*\}/, "", tail)
        sub(/\}[^}]*$/, "", body)
        if (head ~ /enum/)
            print_enum(body, last_name(squeezed(head)))
        else
            print_struct(body, squeezed(tail))
    } else if (text ~ /^typedef/) {
        printf "    print_function(%s);\n", quoted(text)
    }
}

BEGIN {
    print "#include <llm/text.h>"
    print "#include \"abi/interface.h\"\n"
    print "int main(void)\n{"
}

{ line = $0 }
in_comment { if (!sub(/.*\*\//, "", line)) next; in_comment = 0 }
{
    gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, " ", line)
    if (sub(/\/\*.*/, "", line))
        in_comment = 1
}
line ~ /^#define LLM_[A-Z_0-9]+ / {
    split(line, words, " ")
    if (words[2] !~ /^LLM_(API|MUST_CHECK)$/)
        printf "    print_value(%s, (unsigned long long)(%s));\n", quoted(words[2]), words[2]
    next
}
line ~ /^#/ || line ~ /^extern "C"/ { next }
depth == 0 && line ~ /^}/ && declaration == "" { next }
{
    depth += gsub(/\{/, "{", line) - gsub(/\}/, "}", line)
    declaration = declaration line "\n"
    if (depth == 0 && line ~ /; *$/) {
        sub(/; *\n$/, "", declaration)
        declare(declaration)
        declaration = ""
    } else if (squeezed(declaration) == "") {
        declaration = ""
    }
}

END { print "    return 0;\n}" }
