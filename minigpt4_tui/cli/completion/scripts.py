"""The completion scripts of shells, which call `minigpt4 completion --words SHELL WORD...` for candidates.

The last word is the one being typed, up to the cursor. Each line of output is a value,
with no space added after one that ends with `=`; or `:files` for the shell's own completion of paths, which
handles ~, quotes and spaces, or `:files toml` for paths that end in .toml.
"""

from __future__ import annotations

BASH = r"""# bash completion of minigpt4: source <(minigpt4 completion bash)
_minigpt4() {
    local program=${1/#\~\//$HOME/} rest=${COMP_LINE:0:COMP_POINT} word trimmed head= line files= path
    local -a words=()
    local -i last=-1
    # bash also splits at = and :, so what no space separates is joined; readline keeps `head` as it is.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        # The cursor may stand inside the word.
        [[ $trimmed == "$word"* ]] || word=$trimmed
        if [[ $last -ge 0 && $trimmed == "$rest" ]]; then
            head=${words[last]}
            words[last]+=$word
        else
            head=
            last+=1
            words[last]=$word
        fi
        rest=${trimmed#"$word"}
    done
    [[ $word == [=:] ]] && head+=$word
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files*) files=$line ;;
            *) COMPREPLY+=("${line#"$head"}") ;;
        esac
    done < <("$program" completion --words bash "${words[@]:1}" 2>/dev/null)
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    # Without a value readline completes paths by itself (-o default).
    if [[ $files && ( ${#COMPREPLY[@]} -gt 0 || $files != :files ) ]]; then
        path=${words[last]#"$head"}
        path=${path//\\/}
        path=${path#[\"\']}
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
            if [[ $files == :files ]]; then
                compgen -f -- "$path"
            else
                compgen -f -X "!*.${files#:files }" -- "$path"
                compgen -d -- "$path"
            fi
        )
        compopt -o filenames 2>/dev/null
    elif [[ ${words[last]} != [\"\']* ]]; then
        for last in "${!COMPREPLY[@]}"; do
            printf -v "COMPREPLY[last]" %q "${COMPREPLY[last]}"
        done
    fi
}
complete -o bashdefault -o default -F _minigpt4 minigpt4
"""

ZSH = r"""#compdef minigpt4
# zsh completion of minigpt4: source <(minigpt4 completion zsh)
_minigpt4() {
    local -a found open
    local line files= suffix= program=${words[1]/#\~\//$HOME/} ret=1
    while IFS= read -r line; do
        if [[ $line == :files* ]]; then
            files=1
            suffix=${${line#:files}# }
        elif [[ ${line%%:*} == *= ]]; then
            open+=("$line")
        else
            found+=("$line")
        fi
    done < <("$program" completion --words zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    # In the order given: the latest conversation first.
    (( $#found )) && _describe -V -t values minigpt4 found && ret=0
    (( $#open )) && _describe -V -t keys minigpt4 open -S '' && ret=0
    if [[ -n $files ]]; then
        compset -P '--*='
        if [[ -n $suffix ]]; then
            _files -g "*.$suffix" && ret=0
        else
            _files && ret=0
        fi
    fi
    return ret
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    # It lies in a folder of $fpath, and this is its first Tab.
    _minigpt4 "$@"
else
    compdef _minigpt4 minigpt4
fi
"""

FISH = r"""# fish completion of minigpt4: minigpt4 completion fish > ~/.config/fish/completions/minigpt4.fish
function __minigpt4_words
    set -l before
    # fish 4 has -x in place of -o.
    if commandline -x >/dev/null 2>&1
        set before (commandline -xpc)
    else
        set before (commandline -opc)
    end
    set -l current (commandline -ct)
    for line in (command $before[1] completion --words fish $before[2..-1] "$current" 2>/dev/null)
        if not string match -q ':files*' -- $line
            printf '%s\n' $line
            continue
        end
        set -l option (string match -r '^--[^=]*=' -- "$current")
        set -l begun (string replace -r '^--[^=]*=' '' -- "$current")
        # Its glob takes a backslash for a part of the name.
        set -l paths (__fish_complete_path (string unescape -- "$begun"; or echo "$begun"))
        if test "$line" = ':files toml'
            set paths (string match -r '^.*(?:/|\.toml)(?:\t.*)?$' -- $paths)
        end
        for path in $paths
            printf '%s\n' "$option$path"
        end
    end
end
complete -c minigpt4 -f -k -a '(__minigpt4_words)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
