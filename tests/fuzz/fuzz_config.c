/* fuzz_config.c -- any file as configuration.
 *
 * Whatever the bytes: an answer of 0 or -EINVAL with one line of text. And what is taken, when printed, must read back
 * as the same configuration: print and read are two programs over one table, so each is the oracle of the other. */
#include "broker/base/config_schema.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config *defaults(void)
{
    char *argv[] = {(char *)"tern"};
    enum config_action action;
    struct config *config = NULL;
    char error[256];

    int rc = config_load(1, argv, NULL, error, sizeof(error), &action, &config);
    assert(rc == 0);
    return config;
}

static int read_from(struct config *config, void *bytes, size_t size, char *error, size_t error_size)
{
    FILE *in = fmemopen(bytes, size, "r");
    assert(in);
    int rc = config_yaml_read(config, in, "fuzz.yaml", error, error_size);
    fclose(in);
    return rc;
}

static void check_round_trip(const struct config *config)
{
    struct config *again = defaults();
    char error[1024], *printed = NULL;
    size_t printed_len = 0;

    FILE *out = open_memstream(&printed, &printed_len);
    assert(out);
    config_print(config, out);
    fclose(out);
    int rc = read_from(again, printed, printed_len, error, sizeof(error));
    assert(rc == 0);
    for (size_t i = 0; i < config_keys.count; i++) {
        assert(config_value_eq(config, again, &config_keys.keys[i]));
    }
    free(printed);
    config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = defaults();
    char error[1024] = "";

    if (size == 0) { /* fmemopen takes no empty buffer */
        config_free(config);
        return 0;
    }
    int rc = read_from(config, (void *)data, size, error, sizeof(error));
    if (rc == 0) {
        check_round_trip(config);
    } else {
        assert(rc == -EINVAL);
        assert(strncmp(error, "fuzz.yaml:", 10) == 0);
    }
    config_free(config);
    return 0;
}
