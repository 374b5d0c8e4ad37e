/* completion.c -- ternctl completion bash: a script made of the table of commands.
 *
 * Each command is a line of its usage, and that is the only source: --NAME is an option; behind it stands its value, in
 * capitals when it can be anything, or all its words with | between them. The script looks the line up by the words
 * that were typed, longest first. */
#include "broker/cli/commands.h"

#include <stdio.h>

#include "broker/cli/remote.h"

static const char head[] =
    "# bash completion of ternctl, made by: ternctl completion bash\n"
    "_ternctl() {\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} name='' line='' usage i\n"
    "    local -a typed=()\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        case ${COMP_WORDS[i]} in\n"
    "        --url | --user | --password-file | --token-file | --cacert | --node) ((i++)) ;;\n"
    "        -*) ;;\n"
    "        *) typed+=(\"${COMP_WORDS[i]}\") ;;\n"
    "        esac\n"
    "    done\n"
    "    while IFS= read -r usage; do\n"
    "        name=${usage%%|*}\n"
    "        [[ -n $name && \"${typed[*]} \" == \"$name \"* ]] && line=\" ${usage#*|} \" && break\n"
    "    done <<<\"$_ternctl_commands\"\n"
    "    if [[ -z $line ]]; then # a noun, or the verb behind it\n"
    "        mapfile -t COMPREPLY < <(while IFS= read -r usage; do\n"
    "            name=${usage%%|*}\n"
    "            if [[ ${#typed[@]} -eq 0 && -n $name ]]; then echo \"${name%% *}\"\n"
    "            elif [[ $name == \"${typed[0]} \"* ]]; then echo \"${name#* }\"; fi\n"
    "        done <<<\"$_ternctl_commands\" | sort -u | grep -e \"^$word\")\n"
    "        return\n"
    "    fi\n"
    "    if [[ $before == --* && $line == *\" $before=\"* ]]; then # its value\n"
    "        usage=${line#*\" $before=\"}\n"
    "        usage=${usage%% *}\n"
    "        if [[ $usage == *'|'* ]]; then\n"
    "            mapfile -t COMPREPLY < <(compgen -W \"${usage//|/ }\" -- \"$word\")\n"
    "        else\n"
    "            mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
    "        fi\n"
    "        return\n"
    "    fi\n"
    "    usage=\n"
    "    for i in $line; do\n"
    "        [[ $i == --* ]] && usage+=\" ${i%%=*}\" || usage+=\" ${i//|/ }\"\n"
    "    done\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$usage\" -- \"$word\")\n"
    "    [[ $word == -* || ${#COMPREPLY[@]} -gt 0 ]] || mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
    "}\n"
    "complete -o filenames -F _ternctl ternctl\n";

static bool is_small(char c)
{
    return c >= 'a' && c <= 'z';
}

/* From a usage the words that can be typed: options as --name or --name=VALUE, and the small letters' own words. */
static void put_words(struct buf *out, const char *usage)
{
    static const char between[] = " []";
    bool value = false; /* the word may belong to the option before it */

    for (const char *at = usage; *at;) {
        size_t blank = strspn(at, between), len = strcspn(at + blank, between);
        bool apart = memchr(at, ']', blank) || memchr(at, '[', blank);
        at += blank;
        bool option = len > 2 && at[0] == '-' && at[1] == '-';
        if (option) {
            cli_put(out, " %.*s", (int)len, at);
        } else if (len > 0 && value && !apart && *at != '|') {
            cli_put(out, "=%.*s", (int)len, at);
        } else if (len > 0 && is_small(*at)) {
            cli_put(out, " %.*s", (int)len, at);
        }
        value = option;
        at += len;
    }
}

int completion_main(int argc, char **argv)
{
    struct buf out = {0}, common = {0};

    if (argc != 2 || strcmp(argv[1], "bash") != 0) {
        return cli_fail(CLI_ARGUMENTS, "needs the name of the shell: bash");
    }
    for (const struct remote_option *o = remote_common_options; o->name; o++) {
        cli_put(&common, " --%s%s%s", o->name, o->value ? "=" : "", o->value ? o->value : "");
    }
    buf_u8(&common, 0);
    buf_put(&out, slice_str("_ternctl_commands='"));
    for (size_t i = 0; i < cli_command_count; i++) {
        cli_put(&out, "%s|", cli_commands[i].name);
        put_words(&out, cli_commands[i].arguments);
        buf_put(&out, slice_str(" --help\n"));
    }
    for (size_t i = 0; i < remote_verb_count && !common.failed; i++) {
        cli_put(&out, "%s|", remote_verbs[i].name);
        for (const struct remote_option *o = remote_verbs[i].options; o && o->name; o++) {
            cli_put(&out, " --%s%s%s", o->name, o->value ? "=" : "", o->value ? o->value : "");
        }
        cli_put(&out, "%s --help\n", (const char *)common.ptr);
    }
    buf_put(&out, slice_str("'\n"));
    bool good = !out.failed && !common.failed;
    if (good) {
        fwrite(out.ptr, 1, out.len, stdout);
        fputs(head, stdout);
    }
    buf_deinit(&out);
    buf_deinit(&common);
    return good ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");
}
