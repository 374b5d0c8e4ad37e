#include "tests/lib/config_load.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/unit.h"

#define ARGS_MAX 8

int config_load_args(char *const args[], char *const envp[], char *error, size_t error_size, struct config **ret_config)
{
    char *argv[ARGS_MAX + 2] = {(char *)"tern"};
    enum config_action action;
    int argc = 1;

    for (; args && args[argc - 1]; argc++) {
        argv[argc] = args[argc - 1];
    }
    error[0] = '\0';
    return config_load(argc, argv, envp, error, error_size, &action, ret_config);
}

int config_load_text(const char *text, size_t len, char *error, size_t error_size, struct config **ret_config)
{
    char *args[] = {(char *)"--config", (char *)"tern.yaml", NULL};
    char directory[] = "/tmp/tern-config-XXXXXX", before[4096];

    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(before, sizeof(before)));
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    CU_ASSERT_EQUAL_FATAL(chdir(directory), 0);
    FILE *out = fopen("tern.yaml", "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    fwrite(text, 1, len, out);
    fclose(out);
    int rc = config_load_args(args, NULL, error, error_size, ret_config);
    unlink("tern.yaml");
    CU_ASSERT_EQUAL_FATAL(chdir(before), 0);
    rmdir(directory);
    return rc;
}
