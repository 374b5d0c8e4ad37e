/* config_load.h -- a configuration from arguments, variables, or the text of a file, for the tests of broker/base. */
#ifndef TERN_TESTS_LIB_CONFIG_LOAD_H
#define TERN_TESTS_LIB_CONFIG_LOAD_H

#include "broker/base/config.h"

/* Load from argv (without the program) and envp, both NULL-terminated, or NULL for none. */
int config_load_args(char *const args[], char *const envp[], char *error, size_t error_size,
                     struct config **ret_config);

/* Load a file with this text, which messages call tern.yaml. */
int config_load_text(const char *text, size_t len, char *error, size_t error_size, struct config **ret_config);

#endif
