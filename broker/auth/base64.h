/* base64.h -- RFC 4648, strictly: bytes have one spelling, so that what was compared as text was compared as bytes. */
#ifndef TERN_BROKER_AUTH_BASE64_H
#define TERN_BROKER_AUTH_BASE64_H

#include "proto/base/buf.h"

/* Append what text says. url: the alphabet with - and _, never padded (section 5, as RFC 7515 takes it). Else the one
 * with
 * + and /, padded to a multiple of four or not at all (PHC strings are not). Empty text is no bytes. Returns 0, or with
 * out's length as it was: -EINVAL for any other character, wrong padding, or bits set behind the last byte; -ENOMEM. */
int base64_decode(struct slice text, bool url, struct buf *out);

/* Append data's text: with padding, for a url without. Memory that is out shows in out->failed. */
void base64_encode(struct slice data, bool url, struct buf *out);

#endif
