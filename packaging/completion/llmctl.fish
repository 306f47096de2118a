# fish completion for llmctl, llmd and llm-bench. What there is to choose from, `llmctl __complete` knows
# (tools/llmctl/complete.h); this only asks and hands on.
function __llmctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set words[1] (string replace -r '.*/' '' -- $words[1])
    for line in (llmctl __complete -- $words "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path $current
            case ':directories'
                __fish_complete_directories $current
            case ':nospace'
            case '*'
                printf '%s\n' $line
        end
    end
end
for program in llmctl llmd llm-bench
    complete -c $program -f -a '(__llmctl_complete)'
end
