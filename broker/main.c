/* tern -- the broker. Arguments, and the exit status: 0 ended as asked, 1 could not start, 2 wrong configuration or
 * arguments, 74 the disk failed (node.h). */
#include <stdio.h>
#include <stdlib.h>

#include "broker/base/version.h"
#include "broker/node.h"

int main(int argc, char *argv[], char *envp[])
{
    struct node_sources sources = {.argc = argc, .argv = argv, .envp = envp};
    struct config *config = NULL;
    enum config_action action;
    char error[1024];

    if (config_load(argc, argv, envp, error, sizeof(error), &action, &config) != 0) {
        fprintf(stderr, "tern: %s\n", error);
        return 2;
    }
    switch (action) {
    case CONFIG_RUN:
        return node_run(config, &sources);
    case CONFIG_TEST:
        printf("the configuration is valid\n");
        break;
    case CONFIG_PRINT:
        config_print(config, stdout);
        break;
    case CONFIG_VERSION:
        printf("tern %s\n", TERN_VERSION);
        break;
    case CONFIG_HELP:
        config_help(stdout);
        break;
    }
    config_free(config);
    return 0;
}
