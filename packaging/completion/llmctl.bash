# bash completion for llmctl, llmd and llm-bench. What there is to choose from, `llmctl __complete` knows
# (tools/llmctl/complete.h); this only asks and hands on.
_llmctl()
{
    local line=${COMP_LINE:0:COMP_POINT} words candidate current cut=
    read -ra words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=("")
    words[0]=${words[0]##*/}
    current=${words[-1]}
    # bash replaces only what follows the last of its own word breaks ("--socket=" stays as it is).
    [[ $COMP_WORDBREAKS == *=* && $current == *=* ]] && cut=${current%"${current##*=}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        case $candidate in
        :files | :directories)
            local kind=-f file
            [[ $candidate == :directories ]] && kind=-d
            while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen "$kind" -- "${current#"$cut"}")
            compopt -o filenames 2>/dev/null
            ;;
        :nospace) compopt -o nospace 2>/dev/null ;;
        *)
            candidate=${candidate%%$'\t'*}
            COMPREPLY+=("${candidate#"$cut"}")
            ;;
        esac
    done < <(llmctl __complete -- "${words[@]}" 2>/dev/null)
}
complete -F _llmctl llmctl llmd llm-bench
