# fish completion for coracle
function __coracle_complete
    set -l current "$(commandline -ct)"
    set -l words (commandline -opc)
    set -l answer ($words[1] completion words $words[2..-1] "$current" 2>/dev/null)
    switch "$answer[1]"
        case ':files'
            __fish_complete_path "$current"
        case ':directories'
            __fish_complete_directories "$current"
        case '?*'
            printf '%s\n' $answer
    end
end
complete -c coracle -f -a '(__coracle_complete)'
