/* digest.h -- SHA-256, for tokens of the admin port: what is kept of them. */
#ifndef TERN_BROKER_AUTH_DIGEST_H
#define TERN_BROKER_AUTH_DIGEST_H

#include "proto/base/slice.h"

#define DIGEST_SIZE 32u

void digest_sha256(struct slice data, uint8_t out[DIGEST_SIZE]);

/* 64 hex digits into 32 bytes. Returns 0 or -EINVAL. */
int digest_parse(struct slice text, uint8_t out[DIGEST_SIZE]);

#endif
