"""The scripts that shells read. Each asks `minigpt4 completion --words SHELL WORD...` what may come next.

The last word is the one being typed. An answer's line is a value, or `:files` for the shell's own completion
of paths, which knows ~, quotes and spaces.
"""

from __future__ import annotations

BASH = r"""# bash completion of minigpt4: source <(minigpt4 completion bash)
_minigpt4() {
    local IFS=$'\n' line files= current=${COMP_WORDS[COMP_CWORD]}
    [[ $current == "=" ]] && current=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then files=1; else COMPREPLY+=("$line"); fi
    done < <("$1" completion --words bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # Without a value readline completes paths by itself (-o default).
    if [[ $files && ${#COMPREPLY[@]} -gt 0 ]]; then
        COMPREPLY+=($(compgen -f -- "$current"))
        compopt -o filenames 2>/dev/null
    fi
}
complete -o bashdefault -o default -F _minigpt4 minigpt4
"""

ZSH = r"""#compdef minigpt4
# zsh completion of minigpt4: source <(minigpt4 completion zsh)
_minigpt4() {
    local -a found
    local line files=
    while IFS= read -r line; do
        if [[ $line == :files ]]; then files=1; else found+=("$line"); fi
    done < <("${words[1]}" completion --words zsh "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#found )) && _describe -t values minigpt4 found
    if [[ -n $files ]]; then
        compset -P '--*='
        _files
    fi
}
compdef _minigpt4 minigpt4
"""

FISH = r"""# fish completion of minigpt4: minigpt4 completion fish > ~/.config/fish/completions/minigpt4.fish
function __minigpt4_words
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in (command $before[1] completion --words fish $before[2..-1] "$current" 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path "$current"
        else
            printf '%s\n' $line
        end
    end
end
complete -c minigpt4 -f -a '(__minigpt4_words)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
